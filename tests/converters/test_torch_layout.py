"""A net's weights in the layout of hand-written torch models, which then compute the same."""

import numpy as np
import pytest
import torch
from torch import nn

import caffe_compat as caffe
from converters.torch_layout import Reference, fit, read_reference
from prototxt.errors import CaffeError, FormatError, MissingFileError
from segnet.networks import segnet, segnet_basic
from segnet.plain import PlainSegNet, PlainSegNetBasic
from tests.caffe_compat.nets import inputs, net
from tests.converters.emitted import NARROW, fill

LAYER = 'layer {{ name: "{0}" type: "{1}" bottom: "{2}" top: "{3}" {4} }}\n'
CONV = "convolution_param {{ num_output: {0} kernel_size: 3 pad: 1 {1} }}"
#: Convolutions with BatchNorm and Scale, BN, a slope, a deconvolution and an inner product.
TEXT = inputs(data=(2, 3, 6, 8)) + (
    "\n"
    + LAYER.format("first", "Convolution", "data", "a", CONV.format(4, ""))
    + LAYER.format("first/bn", "BatchNorm", "a", "b", "batch_norm_param { eps: 0.001 }")
    + LAYER.format("first/scale", "Scale", "b", "c", "scale_param { bias_term: true }")
    + LAYER.format("first/prelu", "PReLU", "c", "c", "")
    + LAYER.format("second", "Convolution", "c", "d", CONV.format(4, ""))
    + LAYER.format("second/bn", "BN", "d", "d", "bn_param { bn_mode: INFERENCE }")
    + LAYER.format("up", "Deconvolution", "d", "e", "convolution_param { num_output: 2 kernel_size: 2 stride: 2 }")
    + LAYER.format("out", "InnerProduct", "e", "out", "inner_product_param { num_output: 5 bias_term: false }")
)


class ByHand(nn.Module):
    """The net of TEXT, as somebody else wrote it."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.PReLU(4))
        self.body = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4, eps=0.01))
        self.enlarge = nn.ConvTranspose2d(4, 2, 2, stride=2)
        self.head = nn.Linear(2 * 12 * 16, 5)

    def forward(self, x):
        return self.head(self.enlarge(self.body(self.stem(x))).flatten(1))


def reference_of(model, name="model"):
    epsilons = {path: part.eps for path, part in model.named_modules() if isinstance(part, nn.BatchNorm2d)}
    return Reference(name, model.state_dict(), epsilons)


def loaded(model, fitted):
    model.load_state_dict(fitted.state)
    return model.eval()


def check_plain(make, plain):
    """In float64, as a near-tie in a pooling is decided otherwise by the last bit of a float32."""
    built = fill(caffe.Net(make(32, 45), caffe.TEST))
    fitted = fit(built, read_reference(f"segnet.plain:{plain.__name__}"))
    assert all(value.dtype == torch.float32 for key, value in fitted.state.items() if "num_batches" not in key)
    model = loaded(plain(), fitted).double()
    x = torch.rand(2, 3, 32, 45, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 255
    with torch.no_grad():
        want, got = built.double()(x)["prob"], model(x).softmax(1)
    assert ((got - want).abs() <= 1e-5 * want.abs() + 1e-7).all()
    assert len(fitted.rows) == len(built.params)


def test_plain_segnet(monkeypatch):
    for place in ("segnet.networks.vgg16", "segnet.plain"):
        monkeypatch.setattr(f"{place}.VGG16_STAGES", NARROW)
    check_plain(segnet, PlainSegNet)


def test_plain_segnet_basic():
    check_plain(segnet_basic, PlainSegNetBasic)


@pytest.mark.slow
def test_plain_segnet_at_full_width():
    check_plain(segnet, PlainSegNet)


def test_net_with_other_names():
    built = fill(net(TEXT))
    fitted = fit(built, reference_of(ByHand()))
    x = torch.rand(2, 3, 6, 8) * 255
    with torch.no_grad():
        want, got = built(x)["out"], loaded(ByHand(), fitted)(x)
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5 * float(want.abs().max()))
    assert fitted.rows == [
        ("first", "stem.0", "4×3×3×3", "bias in first/bn"),
        ("first/bn + first/scale", "stem.1", "4", ""),
        ("first/prelu", "stem.2", "4", ""),
        ("second", "body.0", "4×4×3×3", "bias in second/bn"),
        ("second/bn", "body.1", "4", ""),
        ("up", "enlarge", "4×2×2×2", ""),
        ("out", "head", "5×384", "bias 0"),
    ]
    assert torch.equal(fitted.state["body.1.running_mean"], -built.layer["second"].bias)
    assert "first/bn + first/scale" in fitted.table() and "stem.1" in fitted.table()


def test_definition_in_another_order():
    """Names tell what is alike, what stands after a filter follows it, and single shapes need neither."""

    class Shuffled(nn.Module):
        def __init__(self):
            super().__init__()
            self.classifier = nn.Conv2d(4, 2, 1)
            self.enc = nn.ModuleDict({"conv2": nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))})
            self.enc["conv1"] = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))

    text = ""
    for before, name in (("data", "conv1"), ("conv1", "conv2")):
        text += LAYER.format(name, "Convolution", before, name, CONV.format(4, ""))
        text += LAYER.format(f"{name}_norm", "BN", name, name, "bn_param { bn_mode: INFERENCE }")
    text += LAYER.format("score", "Convolution", "conv2", "s", "convolution_param { num_output: 2 kernel_size: 1 }")
    built = fill(net(inputs(data=(1, 4, 6, 8)) + text))
    fitted = fit(built, reference_of(Shuffled()))
    assert [row[:2] for row in fitted.rows] == [
        ("conv1", "enc.conv1.0"),
        ("conv1_norm", "enc.conv1.1"),
        ("conv2", "enc.conv2.0"),
        ("conv2_norm", "enc.conv2.1"),
        ("score", "classifier"),
    ]
    assert torch.equal(fitted.state["enc.conv1.0.weight"], built.layer["conv1"].weight)


def test_batch_statistics_leave_those_of_the_reference():
    text = LAYER.format("c", "Convolution", "data", "c", CONV.format(4, ""))
    text += LAYER.format("bn", "BN", "c", "c", "bn_param { bn_mode: LEARN }")
    built = fill(net(inputs(data=(3, 3, 6, 8)) + text))
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4, eps=1e-9))
    model[1].running_mean.fill_(7)
    fitted = fit(built, reference_of(model))
    assert torch.equal(fitted.state["1.running_mean"], torch.full((4,), 7.0))
    assert "statistics as the reference has them" in fitted.rows[1][3]
    model.load_state_dict(fitted.state)
    x = torch.rand(3, 3, 6, 8)
    with torch.no_grad():
        torch.testing.assert_close(model.train()(x), built(x)["c"], rtol=1e-5, atol=1e-5)


def test_everything_that_does_not_fit_is_told():
    class Other(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Conv2d(3, 4, 3)
            self.b = nn.Conv2d(4, 4, 5)
            self.c = nn.BatchNorm2d(4)

    text = LAYER.format("first", "Convolution", "data", "f", CONV.format(4, ""))
    text += LAYER.format("second", "Convolution", "f", "s", CONV.format(4, ""))
    text += LAYER.format("slope", "PReLU", "s", "s", "")
    with pytest.raises(CaffeError) as caught:
        fit(net(inputs(data=(1, 3, 6, 8)) + "\n" + text), reference_of(Other(), "other.pth"))
    assert list(caught.value.problems) == [
        "net.prototxt:3: layer 'second' (Convolution): filter (4, 4, 3, 3) has no counterpart in other.pth; nearest: "
        "b (4, 4, 5, 5)",
        "net.prototxt:4: layer 'slope' (PReLU): slope (4,) has no counterpart in other.pth; expected one of the same "
        "kind, none is left",
        "other.pth: 'b', filter (4, 4, 5, 5), has no counterpart in the net; nearest: second (4, 4, 3, 3)",
        "other.pth: 'c', norm (4,), has no counterpart in the net; expected one of the same kind, none is left",
    ]


def test_one_module_too_many_is_the_only_one_told():
    text = "".join(
        LAYER.format(f"c{i}", "Convolution", "data" if i == 0 else f"c{i - 1}", f"c{i}", CONV.format(4, ""))
        for i in range(4)
    )
    model = nn.Sequential(*(nn.Conv2d(4, 4, size) for size in (3, 3, 1, 3, 3)))
    with pytest.raises(CaffeError, match="'2', filter") as caught:
        fit(net(inputs(data=(1, 4, 6, 8)) + text), reference_of(model))
    assert len(caught.value.problems) == 1


def test_a_choice_that_nothing_decides_is_told():
    text = "".join(
        LAYER.format(f"c{i}", "Convolution", "data" if i == 0 else f"c{i - 1}", f"c{i}", CONV.format(n, ""))
        for i, n in enumerate((4, 4, 2, 2))
    )
    sizes = [(2, 2), (4, 2), (4, 4), (4, 4)]
    rest = fit(net(inputs(data=(1, 4, 6, 8)) + text), reference_of(nn.Sequential(*(nn.Conv2d(*s, 3) for s in sizes))))
    assert [row[:2] for row in rest.rows] == [("c0", "2"), ("c1", "3"), ("c2", "1"), ("c3", "0")]
    text += LAYER.format("c4", "Convolution", "c3", "c4", CONV.format(2, ""))
    sizes = [(2, 2), (4, 4), (2, 2), (4, 2), (4, 4)]
    model = nn.Sequential(*(nn.Conv2d(*size, 3) for size in sizes))
    with pytest.raises(CaffeError, match="several of this shape are left and order and names do not tell which"):
        fit(net(inputs(data=(1, 4, 6, 8)) + text), reference_of(model))


@pytest.mark.parametrize(
    ("norm", "said"),
    [
        ("", "has a bias, '0' of the reference has none"),
        ("bn_param { bn_mode: INFERENCE }", "'1' has no running_mean"),
    ],
)
def test_what_the_reference_cannot_hold(norm, said):
    text = LAYER.format("c", "Convolution", "data", "c", CONV.format(4, ""))
    model = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False))
    if norm:
        text += LAYER.format("bn", "BN", "c", "c", norm)
        model.append(nn.BatchNorm2d(4, track_running_stats=False))
    with pytest.raises(CaffeError, match=said):
        fit(fill(net(inputs(data=(1, 3, 6, 8)) + text)), reference_of(model))


def test_a_bias_that_others_read_is_not_folded():
    text = LAYER.format("c", "Convolution", "data", "c", CONV.format(4, ""))
    text += LAYER.format("bn", "BN", "c", "d", "bn_param { bn_mode: INFERENCE }") + LAYER.format(
        "t", "TanH", "c", "t", ""
    )
    model = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4))
    with pytest.raises(CaffeError, match="no normalisation takes its top alone"):
        fit(fill(net(inputs(data=(1, 3, 6, 8)) + text)), reference_of(model))


def test_other_tensors_stay_as_the_reference_has_them():
    class WithMean(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("mean", torch.tensor([104.0, 117.0, 123.0]))
            self.conv = nn.Conv2d(3, 4, 3)

    text = LAYER.format("c", "Convolution", "data", "c", CONV.format(4, ""))
    fitted = fit(net(inputs(data=(1, 3, 6, 8)) + text), reference_of(WithMean()))
    assert fitted.state["mean"].tolist() == [104, 117, 123]
    assert fitted.rows[-1] == ("", "", "3", "as the reference has it")


def test_where_a_reference_comes_from(tmp_path, monkeypatch):
    model = nn.Conv2d(2, 3, 1)
    torch.save(model.state_dict(), tmp_path / "a.pth")
    torch.save({"state_dict": model.state_dict(), "epoch": 3}, tmp_path / "b.pt")
    for name in ("a.pth", "b.pt"):
        assert read_reference(str(tmp_path / name)).state.keys() == {"weight", "bias"}
    torch.save(model, tmp_path / "whole.pt")
    torch.save({"epoch": 3}, tmp_path / "c.pt")
    (tmp_path / "d.pt").write_text("hello")
    for name, said in (("whole.pt", "nothing was run"), ("c.pt", "no state dict"), ("d.pt", "text, beginning with")):
        with pytest.raises(FormatError, match=said):
            read_reference(str(tmp_path / name))
    with pytest.raises(MissingFileError, match=r"package\.module:Class"):
        read_reference("nothing.pth")
    (tmp_path / "users_models.py").write_text(
        "import torch\nclass Net(torch.nn.BatchNorm2d):\n    pass\nthing = dict\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for name, said in (
        ("users_models:Net", "TypeError.*num_features"),
        ("users_models:thing", "is a dict"),
        ("users_models:Other", "AttributeError"),
        ("no_such_module:Net", "ModuleNotFoundError"),
    ):
        with pytest.raises(CaffeError, match=said):
            read_reference(name)
    assert read_reference("segnet.plain:PlainSegNetBasic").epsilon("encoder.0.1") == 1e-5


def test_numbers_of_a_normalisation():
    """y = scale x + shift by running_mean = 0 and running_var = 1 - eps; BatchNorm's sums are divided."""
    text = LAYER.format("bn", "BatchNorm", "data", "b", "batch_norm_param { eps: 0.25 }")
    built = net(inputs(data=(1, 2, 3, 3)) + text)
    for blob, values in zip(built.params["bn"], ([4, 8], [2, 6], [2]), strict=True):
        blob.data[...] = values
    state = fit(built, Reference("r", nn.BatchNorm2d(2).state_dict(), {"": 0.0})).state
    assert state["running_mean"].tolist() == [2, 4] and state["running_var"].tolist() == [1.25, 3.25]
    assert state["weight"].tolist() == [1, 1] and state["bias"].tolist() == [0, 0]
    scaled = net(inputs(data=(1, 2, 3, 3)) + LAYER.format("bn", "BN", "data", "b", "bn_param { bn_mode: INFERENCE }"))
    state = fit(scaled, Reference("r", nn.BatchNorm2d(2).state_dict())).state
    assert np.allclose(state["running_var"], 1 - 1e-5, atol=1e-7) and state["running_mean"].tolist() == [0, 0]
