import csv
import logging

import numpy as np
import pytest
import torch
from PIL import Image

import caffe_compat as caffe
from converters.caffe2torch import convert
from segnet.evaluate import evaluate, main
from segnet.segmenting import Segmenter
from tests.caffe_compat.nets import inputs, net
from tests.shared import SHARED, needs_shared

SCORE = """
layer { name: "score" type: "Convolution" bottom: "data" top: "score"
  convolution_param { num_output: 3 kernel_size: 1 } }
"""
PROB = 'layer { name: "prob" type: "Softmax" bottom: "score" top: "prob" }'
ARGMAX = 'layer { name: "argmax" type: "ArgMax" bottom: "score" top: "argmax" argmax_param { axis: 1 } }'
DROPOUT = """
layer { name: "drop" type: "Dropout" bottom: "score" top: "score" dropout_param { sample_weights_test: true } }
"""
# labels by image: class 3 is void; of the predictions, which are the images' colours, (1, 0) of b is wrong
TRUTH = {"a": [[0, 1], [1, 2]], "b": [[0, 0], [1, 3]], "c": [[2, 2], [2, 2]]}
SEEN = {"a": [[0, 1], [1, 2]], "b": [[0, 0], [2, 1]], "c": [[2, 2], [2, 2]]}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Three images of 2×2, their labels, and a net that takes the brightest channel (BGR) for the class."""
    monkeypatch.chdir(tmp_path)
    for name, truth in TRUTH.items():
        pixels = np.zeros((2, 2, 3), np.uint8)
        np.put_along_axis(pixels, np.array(SEEN[name])[:, :, None], 200, axis=2)
        Image.fromarray(pixels[:, :, ::-1].copy()).save(f"{name}.png")
        Image.fromarray(np.array(truth, np.uint8)).save(f"{name}_label.png")
    (tmp_path / "list.txt").write_text("".join(f"/data/{name}.png /data/{name}_label.png\n" for name in TRUTH))
    text = inputs(data=(2, 3, 2, 2)) + SCORE
    (tmp_path / "net.prototxt").write_text(text + PROB)
    (tmp_path / "argmax.prototxt").write_text(text + ARGMAX)
    identity(caffe.Net("net.prototxt", caffe.TEST)).save("net.caffemodel")
    return tmp_path


def identity(network):
    network.params["score"][0].data[...] = np.eye(3).reshape(3, 3, 1, 1) / 50
    return network


def numbers(out):
    """The cells of the printed tables."""
    return [line.split() for line in out.splitlines() if line.strip() and not line.startswith("-")]


def test_measures_over_the_list(folder):
    """Three images in batches of two: the third batch place is not counted."""
    for name, engine in (("net", None), ("argmax", None), ("net", "fp32"), ("argmax", "fp32")):
        segmenter = Segmenter(caffe.Net(f"{name}.prototxt", "net.caffemodel", caffe.TEST), engine=engine)
        found = evaluate(segmenter, "list.txt", 3)
        assert found.confusion.matrix.tolist() == [[3, 0, 0], [0, 2, 1], [0, 0, 5]]
        assert [image.pixels for image in found.images] == [4, 3, 4]
        assert np.isnan(found.bf)


def test_command_prints_and_writes(folder, capsys):
    arguments = ["net.prototxt", "net.caffemodel", "list.txt", "--names", "sky,road,tree", "--bf"]
    assert main([*arguments, "--csv", "images.csv", "--save", "deep/pictures"]) == 0
    table = numbers(capsys.readouterr().out)
    assert main([*arguments, "--engine"]) == 0 and numbers(capsys.readouterr().out) == table
    assert table[0] == ["class", "accuracy", "IoU", "BF"]
    assert [row[:3] for row in table[1:4]] == [
        ["sky", "100.00", "100.00"],
        ["road", "66.67", "66.67"],
        ["tree", "100.00", "83.33"],
    ]
    assert table[4] == ["G", "C", "mIoU", "BF"] and table[5][:3] == ["90.91", "88.89", "83.33"]
    with open("images.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"].rsplit("/")[-1] for row in rows] == ["a.png", "b.png", "c.png"]
    assert [float(row["global_accuracy"]) for row in rows] == pytest.approx([1, 2 / 3, 1], rel=1e-5)
    assert rows[2]["class_accuracy"] == "1" and rows[2]["iou sky"] == "" and rows[2]["uncertainty"] == ""
    with Image.open("deep/pictures/b.png") as picture:
        assert np.asarray(picture).tolist() == SEEN["b"]
    with Image.open("deep/pictures/b_overlay.png") as picture:
        assert picture.width > 2
    assert len(list((folder / "deep" / "pictures").iterdir())) == 6


def test_pt_file(folder, capsys):
    convert("net.prototxt", weights="net.caffemodel")
    assert main(["net.pt", "list.txt"]) == 0
    assert numbers(capsys.readouterr().out)[-1] == ["90.91", "88.89", "83.33"]
    assert main(["net.pt", "net.caffemodel", "list.txt"]) == 1
    assert "net.pt holds its weights" in capsys.readouterr().err


def test_another_size_and_convention(folder, capsys):
    assert main(["net.prototxt", "net.caffemodel", "list.txt", "--input-size", "4x6", "--classes", "3"]) == 0
    assert numbers(capsys.readouterr().out)[0] == ["class", "accuracy", "IoU"]
    arguments = ["net.prototxt", "net.caffemodel", "list.txt", "--classes", "5", "--ignore", "3"]
    for convention, accuracy in (("tutorial", "66.67"), ("usual", "88.89")):
        assert main([*arguments, "--convention", convention]) == 0
        assert numbers(capsys.readouterr().out)[-1][1] == accuracy


def test_samples_are_averaged_and_their_variance_is_the_uncertainty():
    bayesian = identity(net(inputs(data=(4, 3, 2, 2)) + SCORE + DROPOUT + PROB))
    segmenter = Segmenter(bayesian)
    assert (segmenter.samples, segmenter.batch_size) == (4, 1)
    image = torch.rand(1, 3, 2, 2) * 200
    torch.manual_seed(3)
    samples = bayesian(data=image.repeat(4, 1, 1, 1))["prob"].detach().numpy()
    assert samples.std(axis=0).max() > 0.1
    torch.manual_seed(3)
    labels, uncertainty = segmenter(image)
    assert np.array_equal(labels[0], samples.mean(axis=0).argmax(axis=0))
    assert uncertainty[0].numpy() == pytest.approx(samples.var(axis=0).mean(axis=0), rel=1e-5)
    assert Segmenter(bayesian, samples=7).samples == 7


def test_pictures_of_uncertainty(folder):
    (folder / "net.prototxt").write_text(inputs(data=(8, 3, 2, 2)) + SCORE + DROPOUT + PROB)
    assert main(["net.prototxt", "net.caffemodel", "list.txt", "--save", "pictures", "--csv", "x.csv"]) == 0
    with Image.open("pictures/a_uncertainty.png") as picture:
        assert picture.mode == "L" and np.asarray(picture).max() == 255
    with open("x.csv", newline="") as file:
        assert all(float(row["uncertainty"]) > 0 for row in csv.DictReader(file))


def test_a_net_with_a_data_layer_of_its_own(folder):
    layer = """
    layer { name: "data" type: "DenseImageData" top: "data" top: "label" transform_param { scale: 0.5 mean_value: 100 }
      dense_image_data_param { source: "elsewhere.txt" batch_size: 3 new_height: 2 new_width: 2 } }
    layer { name: "silence" type: "Silence" bottom: "label" }
    """
    segmenter = Segmenter(identity(net(layer + SCORE + PROB)))
    seen = []
    segmenter.net.layer["score"].register_forward_pre_hook(lambda _, bottoms: seen.append(bottoms[0]))
    assert evaluate(segmenter, "list.txt", 3).confusion.matrix.tolist() == [[3, 0, 0], [0, 2, 1], [0, 0, 5]]
    assert seen[0].shape[0] == 3 and seen[0].unique().tolist() == [-50, 50]


def test_learning_bn_is_told(caplog):
    bn = 'layer { name: "bn" type: "BN" bottom: "score" top: "score" }'
    with caplog.at_level(logging.WARNING):
        Segmenter(net(inputs(data=(1, 3, 2, 2)) + SCORE + bn + PROB))
    assert "hang on the batch" in caplog.text


def test_nets_that_give_no_labels():
    loss = 'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss" }'
    with pytest.raises(caffe.NetError, match=r"'score'.*goes into a loss; expected a net for inference"):
        Segmenter(net(inputs(data=(1, 3, 2, 2), label=(1, 1, 2, 2)) + SCORE + loss))
    with pytest.raises(caffe.NetError, match="no mean over samples"):
        Segmenter(net(inputs(data=(1, 3, 2, 2)) + SCORE + DROPOUT + ARGMAX))
    with pytest.raises(caffe.NetError, match="no layer gives a map of labels"):
        Segmenter(net(inputs(data=(1, 3)) + 'layer { name: "r" type: "ReLU" bottom: "data" top: "r" }'))


def test_labels_outside_the_classes_name_their_file(folder, capsys):
    assert main(["net.prototxt", "net.caffemodel", "list.txt", "--ignore", "7"]) == 1
    assert "b_label.png: labels outside the classes: 3 (1 times)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["net.prototxt", "list.txt"], "no weights file; expected NET.prototxt WEIGHTS LIST, or NET.pt LIST"),
        (["net.prototxt", "net.caffemodel", "nothing.txt"], "'nothing.txt' does not exist"),
        (["net.prototxt", "net.caffemodel", "list.txt", "--csv", "no/x.csv"], "there is no folder"),
        (["net.prototxt", "net.caffemodel", "list.txt", "--save", "a.png"], "a.png: the folder cannot be created"),
        (["other.prototxt", "net.caffemodel", "list.txt"], "no weights for mine of other.prototxt"),
        (
            ["net.prototxt", "net.caffemodel", "twice.txt", "--save", "p"],
            "expected a list of images with different names",
        ),
    ],
)
def test_errors_are_one_message(folder, capsys, arguments, said):
    (folder / "other.prototxt").write_text(
        (folder / "net.prototxt").read_text().replace('name: "score"', 'name: "mine"')
    )
    (folder / "there").mkdir()
    Image.open("a.png").save("there/a.png")
    (folder / "twice.txt").write_text("a.png a_label.png there/a.png a_label.png")
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and said in error


@needs_shared
@pytest.mark.slow
def test_measures_of_the_net_that_caffe_trained(monkeypatch):
    monkeypatch.setenv("CAFFE_ROOT_MAP", f"/SegNet/CamVid={SHARED / 'camvid'}")
    folder = SHARED / "models" / "segnet_basic_96x128"
    trained = caffe.Net(folder / "inference.prototxt", folder / "test_weights.caffemodel", caffe.TEST)
    found = evaluate(Segmenter(trained), "/SegNet/CamVid/val.txt", 11).confusion.measures()
    assert found[:3] == pytest.approx((0.6136, 0.6416, 0.3919), abs=2e-4)
