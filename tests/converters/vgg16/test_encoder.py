"""VGG16 in a net: the net computes what VGG16 does, for its own images and with its own normalisation."""

import re
import shutil

import numpy as np
import pytest
import torch

import caffe_compat as caffe
from caffe_compat.build_graph import build_graph
from caffe_compat.errors import NetError
from converters.vgg16.encoder import encoder_of
from converters.vgg16.layout import NAMES
from converters.vgg16.source import read_vgg16
from prototxt.caffemodel import parse_caffemodel
from prototxt.errors import MissingFileError
from prototxt.net_file import find_net, parse_net, read_net
from tests.caffe_compat.nets import inputs
from tests.converters.vgg16.files import caffe_blobs, encoder, features, layer, state_of, write_caffe
from tests.shared import SHARED, needs_shared

BN = ("_bn", "BN", "")
INFERENCE = ("_bn", "BN", "bn_param { bn_mode: INFERENCE }")
SCALE = ("_scale", "Scale", "scale_param { bias_term: true }")
STORED = ("_norm", "BatchNorm", "batch_norm_param { use_global_stats: true eps: 0.001 }")
MEAN, DEVIATION = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """VGG16 in each of its three files."""
    path = tmp_path_factory.mktemp("vgg16")
    torch.save(state_of(features(False)), path / "vgg16.pth")
    torch.save(state_of(features(True)), path / "vgg16_bn.pth")
    write_caffe(path / "vgg16.caffemodel", caffe_blobs())
    yield path
    shutil.rmtree(path)  # half a gigabyte


def parsed(text, size=(32, 32)):
    return parse_net(inputs(data=(2, 3, *size)) + "\n" + text, "net.prototxt")


def begun(file, source, folder, **options):
    """A net with its encoder loaded through the file that is written, in float64."""
    graph = build_graph(file, caffe.TRAIN)
    found = encoder_of(graph, source, **options)
    found.model().write(folder / "init.caffemodel")
    net = caffe.Net(file, str(folder / "init.caffemodel"), caffe.TEST, dialect=file.dialect)
    return net.double(), found


def pixels(size=(32, 32), count=2):
    """Images in BGR, 0 to 255."""
    return torch.rand(count, 3, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 255


def for_torchvision(images, mean=MEAN, deviation=DEVIATION):
    rgb = images.flip(1) / 255
    return (rgb - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(deviation, dtype=torch.float64).view(1, 3, 1, 1)


def differences(found, want, margin):
    """The largest difference inside and along the edge, as shares of the largest value."""
    apart = (found - want).abs() / want.abs().max()
    inside = apart[..., margin : apart.shape[2] - margin, margin : apart.shape[3] - margin]
    edge = apart.clone()
    edge[..., margin : apart.shape[2] - margin, margin : apart.shape[3] - margin] = 0
    assert inside.numel()
    return inside.max().item(), edge.max().item()


# ---- images


def test_caffes_weights_are_copied_bit_by_bit(folder):
    vgg = read_vgg16(folder / "vgg16.caffemodel")
    found = encoder_of(build_graph(read_net(find_net("segnet_train")), caffe.TRAIN), vgg)
    stored = parse_caffemodel(found.model().to_bytes())
    for one, blobs in zip(stored.layers, caffe_blobs().values(), strict=True):
        for blob, values in zip(one.blobs, blobs, strict=True):
            assert np.array_equal(blob.data, values)
    assert [one.name for one in stored.layers] == list(NAMES) and found.model().dialect == "segnet"
    said = found.describe()
    assert "left as the fillers make them: conv1_1_bn, conv1_2_bn" in said and "conv1_1_D" in said
    assert "of VGG16 not used: fc6, fc7, fc8" in said and "--fold-mean puts that into" in said


def test_caffes_mean_in_the_first_bias(folder):
    vgg = read_vgg16(folder / "vgg16.caffemodel")
    plain, _ = begun(parsed(encoder(1)), vgg, folder)
    folded, found = begun(parsed(encoder(1)), vgg, folder, fold_mean=True)
    mean = torch.tensor([103.939, 116.779, 123.68], dtype=torch.float64).view(1, 3, 1, 1)
    want = plain(data=pixels() - mean)["conv1_1"]
    inside, edge = differences(folded(data=pixels())["conv1_1"], want, 1)
    assert inside < 1e-6 and edge > 0.1
    assert "data: BGR, 0 to 255 (assumed)" in found.describe() and "pads with zeros" in found.describe()


@pytest.mark.parametrize("name", ["vgg16", "vgg16_bn"])
def test_torchvisions_images(folder, name):
    """Inside equal to rounding; along the edge, where zeros are padded and not the mean, by much."""
    net, found = begun(parsed(encoder(4)), read_vgg16(folder / f"{name}.pth"), folder)
    model = features(name == "vgg16_bn", 4).double()
    want = model[:-4](for_torchvision(pixels()))  # without the poolings at the end
    inside, edge = differences(net(data=pixels())["conv2_2"], want, 4)
    assert inside < 1e-6 and edge > 0.01
    assert found.describe().count("RGB to BGR, mean put into the bias, scale put into the weights") == 1
    assert "RGB, 0 to 1, less 0.485, 0.456, 0.406, over 0.229, 0.224, 0.225" in found.describe()


def test_the_whole_encoder(folder):
    """conv5_3 sees 196 pixels, so of 256 those in the middle do not see the edge."""
    net, _ = begun(parsed(encoder(), (256, 256)), read_vgg16(folder / "vgg16.pth"), folder)
    images = pixels((256, 256), 1)
    with torch.no_grad():
        want = features(False)[:-1](for_torchvision(images).float())
        found = net.float()(data=images.float())["conv5_3"]
    inside, edge = differences(found, want, 7)
    assert inside < 1e-5 and edge > 1e-3


def test_weights_trained_on_images_without_deviation(folder):
    """IMAGENET1K_FEATURES has no classifier: NaN in its place."""
    state = state_of(features(False))
    state["classifier.0.weight"] = torch.full((2, 2), torch.nan)
    torch.save(state, folder / "features.pth")
    want = features(False, 1).double()[:2](for_torchvision(pixels(), (0.48235, 0.45882, 0.40784), (1 / 255,) * 3))
    for vgg in (read_vgg16(folder / "features.pth"), read_vgg16(folder / "vgg16.pth", "IMAGENET1K_FEATURES")):
        net, _ = begun(parsed(encoder(1)), vgg, folder)
        assert differences(net(data=pixels())["conv1_1"], want, 1)[0] < 1e-6


DATA = """layer {{ name: "data" type: "ImageData" top: "data" top: "label" transform_param {{ {} }}
  image_data_param {{ source: "/nowhere/list.txt" batch_size: 2 new_height: 32 new_width: 32 }} }}
"""


@pytest.mark.parametrize("name", ["vgg16.pth", "vgg16.caffemodel"])
@pytest.mark.parametrize("by", ["mean_value", "mean_file"])
def test_what_the_data_layer_does_counts(folder, name, by):
    mean = [90.0, 110.0, 130.0]
    np.save(folder / "mean.npy", np.broadcast_to(np.array(mean, np.float32).reshape(3, 1, 1), (3, 32, 32)))
    values = " ".join(f"mean_value: {value}" for value in mean)
    transform = "scale: 0.5 " + (values if by == "mean_value" else f'mean_file: "{folder}/mean.npy"')
    file = parse_net(DATA.format(transform) + encoder(1), "net.prototxt")
    vgg = read_vgg16(folder / name)
    net, found = begun(file, vgg, folder, fold_mean=True)
    less = torch.tensor(mean, dtype=torch.float64).view(1, 3, 1, 1)
    got = net(data=(pixels() - less) / 2)["conv1_1"]
    if vgg.is_caffe:
        plain, _ = begun(parsed(encoder(1)), vgg, folder)
        caffes = torch.tensor([103.939, 116.779, 123.68], dtype=torch.float64).view(1, 3, 1, 1)
        want = plain(data=pixels() - caffes)["conv1_1"]
    else:
        want = features(False, 1).double()[:2](for_torchvision(pixels()))
    assert differences(got, want, 1)[0] < 1e-6
    assert "times 0.5" in found.describe()


def test_nothing_to_fold(folder):
    """A data layer that subtracts VGG16's own mean."""
    values = " ".join(f"mean_value: {value}" for value in (103.939, 116.779, 123.68))
    file = parse_net(DATA.format(values) + encoder(1), "net.prototxt")
    net, found = begun(file, read_vgg16(folder / "vgg16.caffemodel"), folder, fold_mean=True)
    for blob, values in zip(net.params["conv1_1"], caffe_blobs()["conv1_1"], strict=True):
        assert np.array_equal(blob.data, values)
    assert "put into" not in found.describe() and "pads" not in found.describe()


def test_images_that_a_layer_changes(folder):
    """They can be followed through Crop and where they are read twice, not through LRN."""
    norm = layer("norm", "LRN", "data", "norm") + encoder(1).replace('bottom: "data"', 'bottom: "norm"')
    graph = build_graph(parsed(norm), caffe.TRAIN)
    with pytest.raises(NetError, match=r"layer 'conv1_1' .*layer 'norm' \(LRN\) changes the images first"):
        encoder_of(graph, read_vgg16(folder / "vgg16.pth"))
    encoder_of(graph, read_vgg16(folder / "vgg16.caffemodel"))  # copied without asking
    twice = encoder(1) + layer("skip", "Pooling", "data", "skip", "pooling_param { kernel_size: 2 }")
    assert (
        "data: BGR" in encoder_of(build_graph(parsed(twice), caffe.TRAIN), read_vgg16(folder / "vgg16.pth")).describe()
    )


def test_a_mean_file_that_is_not_there(folder):
    file = parse_net(DATA.format('mean_file: "/nowhere/mean.binaryproto"') + encoder(1), "net.prototxt")
    with pytest.raises(MissingFileError, match=r"/nowhere/mean\.binaryproto"):
        encoder_of(build_graph(file, caffe.TRAIN), read_vgg16(folder / "vgg16.pth"))


# ---- normalisation


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("norms", [[INFERENCE], [STORED, SCALE], [SCALE]], ids=["BN", "BatchNorm", "Scale"])
def test_normalisation_with_statistics(folder, norms, bias):
    net, _ = begun(parsed(encoder(4, norms, bias)), read_vgg16(folder / "vgg16_bn.pth"), folder)
    want = features(True, 4).double()[:-4](for_torchvision(pixels()))
    assert differences(net(data=pixels())["conv2_2"], want, 4)[0] < 1e-6


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize(
    "norms",
    [[BN], [("_norm", "BatchNorm", "batch_norm_param { use_global_stats: false }"), SCALE]],
    ids=["BN", "BatchNorm"],
)
def test_normalisation_with_the_batchs_statistics(folder, norms, bias):
    """As in torch's training. Nothing is padded in the first convolution: the edge would be in the statistics."""
    net, _ = begun(parsed(encoder(2, norms, bias, first_pad=0)), read_vgg16(folder / "vgg16_bn.pth"), folder)
    want = features(True, 2, first_pad=0).double().train()[:6](for_torchvision(pixels()))
    assert differences(net(data=pixels())["conv1_2"], want, 1)[0] < 1e-5  # eps is 1e-9 in SegNet's


def test_normalisation_that_the_source_lacks(folder):
    """Keeps its fillers; a bias that the batch's mean takes away may be left out."""
    graph = build_graph(parsed(encoder(2, [BN], bias=False)), caffe.TRAIN)
    found = encoder_of(graph, read_vgg16(folder / "vgg16.pth"))
    assert [len(put.blobs) for put in found.puts] == [1, 1]
    assert "bias left out, the batch's mean takes it away" in found.describe()
    assert "left as the fillers make them: conv1_1_bn, conv1_2_bn" in found.describe()


def test_variances_smaller_than_the_nets_eps(folder):
    """What is stored is below 0 then, and with eps what it was: the same function."""
    model = features(True, 1)
    model[1].running_var[:3] = 1e-4
    state = state_of(features(True)) | {"features.1.running_var": model[1].running_var}
    torch.save(state, folder / "small.pth")
    net, found = begun(parsed(encoder(1, [STORED, SCALE])), read_vgg16(folder / "small.pth"), folder)
    want = model.double()[:3](for_torchvision(pixels()))
    assert differences(net(data=pixels())["conv1_1"], want, 1)[0] < 1e-5
    assert "3 below 0; with eps 0.001 all are above" in found.describe()


@pytest.mark.parametrize(
    ("text", "name", "said"),
    [
        (encoder(2, [STORED]), "vgg16_bn", r"'conv1_1_norm' \(BatchNorm\) behind it has no Scale"),
        (encoder(2, [STORED, BN]), "vgg16_bn", r"'conv1_1_norm' \(BatchNorm\) behind it has no Scale"),
        (encoder(2, [("_s", "Scale", "")]), "vgg16_bn", r"'conv1_1_s' \(Scale\) behind it has `bias_term: false`"),
        (encoder(2, bias=False), "vgg16", "`bias_term: false`, so VGG16's bias has no place"),
        (encoder(2, bias=False), "vgg16_bn", "`bias_term: false` and no normalisation behind it"),
        (encoder(2, [INFERENCE], bias=False), "vgg16", "`bias_term: false`, so VGG16's bias has no place"),
        (encoder(2, [STORED, SCALE], bias=False), "vgg16", "`bias_term: false`, so VGG16's bias has no place"),
    ],
)
def test_what_has_no_place(folder, text, name, said):
    with pytest.raises(NetError, match=rf"net.prototxt:2: layer 'conv1_1' \(Convolution\): {said}") as error:
        encoder_of(build_graph(parsed(text), caffe.TRAIN), read_vgg16(folder / f"{name}.pth"))
    assert len(error.value.problems) == 2  # each of both layers


def test_normalisation_beside_other_readers(folder):
    text = encoder(1) + layer("bn", "BN", "conv1_1", "y")
    text = text.replace(layer("conv1_1_relu", "ReLU", "conv1_1", "conv1_1"), layer("r", "ReLU", "conv1_1", "z"))
    graph = build_graph(parsed(text), caffe.TRAIN)
    with pytest.raises(NetError, match="'r', 'bn' read 'conv1_1'; expected its normalisation alone"):
        encoder_of(graph, read_vgg16(folder / "vgg16_bn.pth"))
    encoder_of(graph, read_vgg16(folder / "vgg16.pth"))  # has no normalisation that would need a place


# ---- the net's layers


def test_by_order_where_no_name_is_vggs(folder):
    names = [f"layer{i}" for i in range(13)]
    more = layer("score", "Convolution", "layer12", "score", "convolution_param { num_output: 5 kernel_size: 1 }")
    found = encoder_of(build_graph(parsed(encoder(names=names) + more), caffe.TRAIN), read_vgg16(folder / "vgg16.pth"))
    assert [put.node.layer.name for put in found.puts] == names
    assert "in order (layer0 to layer12)" in found.describe()
    assert "left as the fillers make them: score" in found.describe()


def test_an_encoder_that_ends_early(folder):
    found = encoder_of(build_graph(parsed(encoder(7)), caffe.TRAIN), read_vgg16(folder / "vgg16.caffemodel"))
    assert len(found.puts) == 7 and "7 convolutions of the net, by name, conv1_1 to conv3_3" in found.describe()
    assert "not used: conv4_1, conv4_2, conv4_3, conv5_1, conv5_2, conv5_3, fc6" in found.describe()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            encoder(5).replace('"conv1_2"', '"conv1_2x"').replace('"conv2_2"', '"conv2_2x"'),
            ["there is no layer 'conv1_2'; expected all from conv1_1 to conv3_1", "there is no layer 'conv2_2'"],
        ),
        (
            encoder(4).replace("num_output: 64", "num_output: 32").replace("num_output: 128", "num_output: 96"),
            [rf"'conv{name}' \(Convolution\): parameters" for name in ("1_1", "1_2", "2_1", "2_2")],
        ),
        (
            encoder(1).replace("kernel_size: 3", "kernel_size: 7"),
            [r"parameters \[\(64, 3, 7, 7\), \(64,\)\]; expected a Convolution of \(64, 3, 3, 3\), VGG16's conv1_1"],
        ),
        (encoder(5, names="abcde"), ["5 convolutions, none of them named as VGG16's"]),
        (layer("conv1_1", "Pooling", "data", "x", "pooling_param { kernel_size: 2 }"), [r"'conv1_1' \(Pooling\)"]),
    ],
)
def test_nets_that_do_not_begin_with_vgg16(folder, text, said):
    with pytest.raises(NetError) as error:
        encoder_of(build_graph(parsed(text), caffe.TRAIN), read_vgg16(folder / "vgg16.pth"))
    assert len(error.value.problems) == len(said)
    for problem, words in zip(error.value.problems, said, strict=True):
        assert re.search(words, problem), problem


PUBLISHED = (
    "segnet-tutorial/Models/segnet_train.prototxt",
    "segnet-tutorial/Example_Models/segnet_pascal.prototxt",
    "deconvnet/training/001_stage_1/stage_1_train.prototxt",
    "deconvnet/model/DeconvNet/DeconvNet_inference_deploy.prototxt",
    "deconvnet/model/FCN/fcn-8s-pascal-deploy.prototxt",
    "fcn/voc-fcn8s/deploy.prototxt",
)


@needs_shared
@pytest.mark.parametrize("path", PUBLISHED)
@pytest.mark.parametrize("source", ["vgg16.caffemodel", "vgg16_bn.pth"])
def test_published_nets(folder, path, source):
    file = read_net(SHARED / "prototxt" / path)
    graph = build_graph(file, caffe.TRAIN)
    found = encoder_of(graph, read_vgg16(folder / source))
    model = found.model()
    assert model.dialect == file.dialect
    shapes = {node.layer.name: [tuple(param.spec.shape) for param in node.params] for node in graph.nodes}
    stored = parse_caffemodel(model.to_bytes())
    assert stored.generation == ("V1" if file.dialect == "deconvnet" else "V2")
    for one in stored.layers:
        assert all(blob.shape_matches(shape) for blob, shape in zip(one.blobs, shapes[one.name], strict=True))
    assert [one.name for one in stored.layers if one.type == "Convolution"] == list(NAMES)
