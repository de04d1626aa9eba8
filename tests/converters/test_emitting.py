"""Whole nets as Python source: the same outputs bit by bit, by a file that needs torch alone."""

import logging
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

import caffe_compat as caffe
from converters.emitting import emit
from converters.emitting.plan import CannotEmit
from converters.emitting.stages import stages
from segnet.networks import segnet, segnet_basic
from tests.caffe_compat.nets import AUTOENCODER, inputs, net
from tests.converters.emitted import NARROW, differences, fill, module_of, write
from tests.shared import SHARED, needs_shared

ROOT = Path(__file__).parents[2]
PROTOTXT = SHARED / "prototxt"


def images(*shape):
    return {"data": torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 255}


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (segnet, {}),
        (segnet, {"bayesian": True, "batch_size": 2}),
        (segnet_basic, {}),
        (segnet_basic, {"bayesian": True}),
    ],
)
def test_segnet_at_an_odd_size(make, options, tmp_path, monkeypatch):
    monkeypatch.setattr("segnet.networks.vgg16.VGG16_STAGES", NARROW)
    built = fill(caffe.Net(make(45, 61, **options), caffe.TEST))
    assert differences(built, tmp_path, images(2, 3, 45, 61)) == []


def test_other_sizes_where_the_size_follows_the_pooling(tmp_path):
    text = AUTOENCODER.replace("scale: 2", "upsample_h: 10 upsample_w: 14")
    source, weights = write(fill(net(text)), tmp_path)
    model = module_of(source).load(str(weights))
    other = fill(net(text.replace("upsample_h: 10 upsample_w: 14", "upsample_h: 7 upsample_w: 9"), image_size=(7, 9)))
    x = images(3, 3, 7, 9)["data"]
    with torch.no_grad():
        assert torch.equal(model(x), other(x)["prob"])


ALONE = """
    import sys

    class Only:
        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] in {"caffe_compat", "converters", "google", "numpy", "prototxt", "segnet"}:
                raise ModuleNotFoundError(f"{name} is not wanted here")

    sys.meta_path.insert(0, Only())
    sys.path.insert(0, sys.argv[1])
    import torch
    from emitted import load

    torch.set_num_threads(1)
    with torch.no_grad():
        got = load(sys.argv[1] + "/emitted.pt")(torch.load(sys.argv[1] + "/x.pt"))
    assert "caffe_compat" not in sys.modules and "numpy" not in sys.modules
    torch.save(got, sys.argv[1] + "/got.pt")
"""


def test_source_runs_with_torch_alone(tmp_path):
    built = fill(caffe.Net(segnet_basic(45, 61), caffe.TEST))
    write(built, tmp_path)
    x = images(1, 3, 45, 61)["data"]
    torch.save(x, tmp_path / "x.pt")
    command = [sys.executable, "-I", "-W", "ignore", "-c", textwrap.dedent(ALONE), tmp_path]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.no_grad():
            want = built(x)["prob"]
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(torch.load(tmp_path / "got.pt"), want)


def test_how_a_source_reads(tmp_path):
    source, weights = write(net(AUTOENCODER), tmp_path)
    text = source.read_text("utf-8")
    for line in (
        "    def forward(self, data: torch.Tensor) -> torch.Tensor:",
        "        # encoder, stage 1: 10×14",
        "        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)",
        "        x = F.relu(self.bn1(self.conv1(data)))  # 4×10×14",
        "        x, mask1 = F.max_pool2d(x, 2, ceil_mode=True, return_indices=True)  # 4×5×7",
        "        # decoder, stage 1: 10×14",
        "        prob = x.softmax(1)  # 2×10×14",
        "input   data: (N, 3, 10, 14), float32, images in BGR order, 0 to 255",
        '    net = load("emitted.pt")',
    ):
        assert f"\n{line}\n" in text
    model = module_of(source).load(str(weights))
    assert list(model.state_dict()) == [
        *("conv1.weight", "conv1.bias", "bn1.scale", "bn1.shift", "score.weight", "score.bias")
    ]
    assert not model.training


def test_weights_of_several_kinds_of_files(tmp_path):
    built = fill(net(AUTOENCODER))
    source, weights = write(built, tmp_path)
    module = module_of(source)
    model = module.load(weights)
    torch.save(model.state_dict(), tmp_path / "plain.pth")
    x = images(1, 3, 10, 14)["data"]
    assert torch.equal(module.load(tmp_path / "plain.pth")(x), model(x))
    torch.save({"state_dict": {"layer.conv1.weight": torch.zeros(1)}}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"other\.pt: no layer\.conv1\.bias, layer\.bn1\.scale"):
        module.load(tmp_path / "other.pt")
    safetensors = pytest.importorskip("safetensors.torch", reason="needs safetensors, the optional extra")
    safetensors.save_file(built.state_dict(), tmp_path / "weights.safetensors")
    assert torch.equal(module.load(tmp_path / "weights.safetensors")(x), model(x))


def test_source_can_be_trained(tmp_path):
    text = AUTOENCODER.replace('name: "score"', 'name: "score" propagate_down: true')
    built = fill(net(text))
    source, weights = write(built, tmp_path)
    model = module_of(source).load(weights).train()
    x = images(2, 3, 10, 14)["data"]
    model(x)[:, 0].square().sum().backward()
    built(x)["prob"][:, 0].square().sum().backward()
    for mine, theirs in zip(model.parameters(), built.parameters(), strict=True):
        assert mine.grad.abs().sum() > 0
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-4, atol=1e-4)


LAYER = 'layer {{ name: "{0}" type: "{1}" bottom: "{2}" top: "{3}" {4} }}\n'
CONV = "convolution_param { num_output: 2 kernel_size: 1 }"


def test_names_that_python_does_not_allow(tmp_path):
    text = (
        LAYER.format("1/a", "Convolution", "x", "for", CONV)
        + LAYER.format("1.a", "Convolution", "for", "1/a", CONV)
        + LAYER.format("1-a", "Convolution", "1/a", "lambda", CONV)
        + LAYER.format("train", "Convolution", "lambda", "F", CONV)
        + LAYER.format('say "so"', "Convolution", "F", "lrn", CONV)
        + LAYER.format("ü", "Convolution", "lrn", "torch", CONV)
        + LAYER.format("class", "PReLU", "torch", "self", "")
    ).replace('say "so"', 'say \\"so\\"')
    built = fill(net(inputs(x=(1, 2, 3, 3)) + text))
    assert differences(built, tmp_path) == []
    names = list(module_of(tmp_path / "emitted.py").load(str(tmp_path / "emitted.pt")).state_dict())
    assert [name.partition(".")[0] for name in names[::2]] == [
        *("_1_a", "_1_a_2", "_1_a_3", "train_", "say__so_", "__", "class_")
    ]


SHARED_TEXT = """
layer {{ name: "a" type: "Convolution" bottom: "x" top: "a" param {{ name: "w" }} param {{ name: "b" }} {conv} }}
layer {{ name: "b" type: "Convolution" bottom: "y" top: "b" param {{ name: "w" }} param {{ name: "{bias}" }} {conv} }}
"""


@pytest.mark.parametrize(("bias", "count"), [("b", 2), ("own", 4)])
def test_layers_that_share_parameters(bias, count, tmp_path):
    shapes = {"x": (1, 2, 3, 3), "y": (1, 2, 3, 3)}
    built = fill(net(inputs(**shapes) + SHARED_TEXT.format(bias=bias, conv=CONV)))
    assert differences(built, tmp_path) == []
    model = module_of(tmp_path / "emitted.py").load(str(tmp_path / "emitted.pt"))
    assert len(model.state_dict()) == count
    assert len(list(model.parameters())) == (2 if bias == "b" else 3)


def test_parameters_shared_in_another_shape_are_refused():
    first = 'param { name: "w" } convolution_param { num_output: 4 kernel_size: 1 bias_term: false }'
    second = 'param { name: "w" share_mode: PERMISSIVE } inner_product_param { num_output: 2 bias_term: false }'
    text = LAYER.format("a", "Convolution", "x", "a", first) + LAYER.format("b", "InnerProduct", "x", "b", second)
    with pytest.raises(CannotEmit, match=r"'b' \(InnerProduct\): shares a parameter with 'a' in another shape"):
        emit(net(inputs(x=(1, 4, 2, 1)) + text), "w.pt", "m")


MEASURED = """
layer { name: "d" type: "DummyData" top: "data" top: "label" dummy_data_param {
  shape { dim: 2 dim: 3 dim: 4 dim: 4 } shape { dim: 2 dim: 1 dim: 4 dim: 4 } }
  transform_param { scale: 0.5 mean_value: 104 } }
layer { name: "half" type: "Power" bottom: "label" top: "halved" power_param { scale: 0.5 } }
layer { name: "c" type: "Convolution" bottom: "data" top: "score" convolution_param { num_output: 2 kernel_size: 1 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "halved" top: "loss" }
layer { name: "acc" type: "Accuracy" bottom: "score" bottom: "label" top: "acc" }
"""


def test_losses_and_labels_are_left_out(tmp_path):
    built = fill(net(MEASURED))
    source, weights = write(built, tmp_path)
    text = source.read_text("utf-8")
    assert "Left out, as they train or measure:\n  loss (SoftmaxWithLoss)\n  acc (Accuracy)\n" in text
    assert "after its data layer's mean_value 104 and scale 0.5" in text
    x = images(2, 3, 4, 4)["data"]
    with torch.no_grad():
        built(data=x, label=torch.zeros(2, 1, 4, 4))
        assert torch.equal(
            module_of(source).load(weights)(x), torch.nn.functional.conv2d(x, *built.layer.c.parameters())
        )


def test_several_outputs_come_by_name(tmp_path):
    text = LAYER.format("a/b", "TanH", "x", "a/b", "") + LAYER.format("c", "AbsVal", "x", "c", "")
    built = net(inputs(x=(2, 3)) + text)
    assert differences(built, tmp_path) == []
    got = module_of(tmp_path / "emitted.py").load()(torch.ones(2, 3))
    assert list(got) == ["a/b", "c"]


def test_every_layer_that_cannot_be_emitted_is_told():
    text = (
        LAYER.format("e", "Im2col", "x", "e", "convolution_param { kernel_size: 2 }")
        + LAYER.format("p", "Pooling", "x", "p", "pooling_param { pool: STOCHASTIC kernel_size: 2 }")
        + LAYER.format("s", "SPP", "x", "s", "spp_param { pyramid_height: 1 }")
    )
    with pytest.raises(CannotEmit) as caught:
        emit(net(inputs(x=(1, 2, 4, 4)) + "\n" + text), "w.pt", "m")
    assert [problem.split(": ")[0:2] for problem in caught.value.problems] == [
        ["net.prototxt:2", "layer 'e' (Im2col)"],
        ["net.prototxt:3", "layer 'p' (Pooling)"],
        ["net.prototxt:4", "layer 's' (SPP)"],
    ]
    assert "Convolution" in str(caught.value)


def test_training_nets_are_refused():
    with pytest.raises(CannotEmit, match="--phase test"):
        emit(net(AUTOENCODER, caffe.TRAIN), "w.pt", "m")
    with pytest.raises(CannotEmit, match="no output"):
        emit(net(inputs(x=(2, 3)) + 'layer { type: "Silence" bottom: "x" }'), "w.pt", "m")


def test_writing_over_shared_memory_is_refused():
    text = (
        LAYER.format("t", "TanH", "x", "t", "")
        + LAYER.format("f", "Flatten", "t", "f", "")
        + LAYER.format("r", "ReLU", "f", "f", "")
        + LAYER.format("a", "AbsVal", "t", "a", "")
    )
    with pytest.raises(CannotEmit, match=r"'r' \(ReLU\): writes over the memory of 't', which is read later .*'a'"):
        emit(net(inputs(x=(1, 2, 4, 4)) + text), "w.pt", "m")


def test_users_own_python_layers_are_refused(tmp_path, monkeypatch):
    (tmp_path / "mine_for_emitting.py").write_text(
        "import caffe_compat as caffe\n"
        "class Mine(caffe.Layer):\n"
        "    def setup(self, b, t): pass\n"
        "    def reshape(self, b, t): t[0].reshape(*b[0].shape)\n"
        "    def forward(self, b, t): t[0].data[...] = b[0].data\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    text = LAYER.format("m", "Python", "x", "y", 'python_param { module: "mine_for_emitting" layer: "Mine" }')
    with pytest.raises(CannotEmit, match=r"its code is Mine in .*mine_for_emitting\.py"):
        emit(net(inputs(x=(1, 2)) + text), "w.pt", "m")


def test_long_names_are_laid_out_as_ruff_does(tmp_path):
    pytest.importorskip("ruff", reason="needs ruff, of the extra dev")
    long = "a_layer_whose_name_somebody_has_made_much_longer_than_anybody_needs_"
    text = "".join(LAYER.format(f"{long}{i}", "Convolution", "x", f"{long}{i}", CONV) for i in range(5))
    joined = " ".join(f'bottom: "{long}{i}"' for i in range(5))
    text += f'layer {{ name: "{long}joined" type: "Concat" {joined} top: "{long}joined" }}'
    text += "".join(LAYER.format(f"{long}out{i}", "TanH", f"{long}joined", f"{long}out{i}", "") for i in range(3))
    built = fill(net(inputs(x=(1, 2, 3, 3)) + text))
    assert differences(built, tmp_path) == []
    command = [sys.executable, "-m", "ruff", "format", "--check", "--config", ROOT / "pyproject.toml", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"bayesian": True, "batch_size": 2}])
def test_segnet_at_full_width_and_an_odd_size(options, tmp_path):
    built = fill(caffe.Net(segnet(45, 61, **options), caffe.TEST))
    assert differences(built, tmp_path, images(2, 3, 45, 61)) == []


@needs_shared
def test_net_that_caffe_trained(tmp_path):
    folder = SHARED / "models" / "segnet_basic_96x128"
    built = caffe.Net(str(folder / "inference.prototxt"), str(folder / "test_weights.caffemodel"), caffe.TEST)
    assert differences(built, tmp_path, images(1, 3, 96, 128)) == []


#: Published nets by their place below ``prototxt``: how they are built, the images they are run on at other sizes.
PUBLISHED = [
    ("segnet-tutorial/Models/segnet_inference.prototxt", {}, (2, 3, 360, 480)),
    ("segnet-tutorial/Models/segnet_basic_inference.prototxt", {}, (1, 3, 360, 480)),
    ("segnet-tutorial/Models/bayesian_segnet_basic_inference.prototxt", {}, (2, 3, 360, 480)),
    ("segnet-tutorial/Example_Models/segnet_pascal.prototxt", {}, (1, 3, 224, 224)),
    ("segnet-tutorial/Example_Models/segnet_sun.prototxt", {}, (1, 3, 360, 480)),
    ("fcn/voc-fcn8s/deploy.prototxt", {}, (1, 3, 500, 500)),
    ("fcn/voc-fcn8s/deploy.prototxt", {}, (2, 3, 45, 61)),
    (
        "fcn/voc-fcn32s/val.prototxt",
        {"input_shapes": {"data": (1, 3, 90, 70), "label": (1, 1, 90, 70)}},
        (1, 3, 90, 70),
    ),
    ("enet/enet_deploy_final.prototxt", {}, (1, 3, 512, 1024)),
    ("enet/enet_deploy_final.prototxt", {"image_size": (64, 96)}, (3, 3, 64, 96)),
    ("enet/enet_deploy.prototxt", {"image_size": (64, 96)}, (3, 3, 64, 96)),
    ("bvlc/models/bvlc_alexnet/deploy.prototxt", {}, (3, 3, 227, 227)),
    ("bvlc/models/bvlc_googlenet/deploy.prototxt", {}, (2, 3, 224, 224)),
    ("bvlc/examples/siamese/mnist_siamese.prototxt", {}, (5, 1, 28, 28)),
    ("deconvnet/model/DeconvNet/DeconvNet_inference_deploy.prototxt", {}, (1, 3, 224, 224)),
    ("deconvnet/model/FCN/fcn-8s-pascal-deploy.prototxt", {}, (1, 3, 45, 61)),
]


@needs_shared
@pytest.mark.slow
@pytest.mark.parametrize(("place", "options", "shape"), PUBLISHED)
def test_published_net(place, options, shape, tmp_path, caplog):
    caplog.set_level(logging.ERROR)
    built = fill(caffe.Net(str(PROTOTXT / place), caffe.TEST, **options))
    given = {name: torch.zeros(tuple(built.blobs[name].shape)) for name in built.graph.feeds}
    given[built.graph.feeds[0]] = images(*shape)["data"]
    assert differences(built, tmp_path, given) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["segnet", "segnet_basic", "bayesian_segnet", "bayesian_segnet_basic"])
def test_shipped_net(name, tmp_path):
    built = fill(caffe.Net(str(ROOT / "prototxt" / "zoo" / f"{name}.prototxt"), caffe.TEST))
    assert differences(built, tmp_path, images(1, 3, 360, 480)) == []


def test_stages_of_a_net_in_full_resolution():
    built = net(inputs(x=(1, 2, 3, 3)) + LAYER.format("c", "Convolution", "x", "y", CONV))
    assert "# stage 1: 3×3" in emit(built, "w.pt", "m")
    assert stages([]) == ([], [])
