"""Each operation in a tiny module: torch beside the net of the written files."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from prototxt.dialects import DIALECTS
from prototxt.errors import CaffeError
from tests.converters.tracing.comparing import Calls, both, check, check_each, randomised, types

ODD = (2, 4, 9, 13)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def image(*shape):
    return torch.randn(shape or ODD)


FILTERS = {
    "plain": nn.Conv2d(4, 6, 3),
    "stride and pad": nn.Conv2d(4, 6, 3, stride=2, padding=1, bias=False),
    "uneven": nn.Conv2d(4, 6, (3, 5), stride=(1, 2), padding=(0, 2)),
    "groups": nn.Conv2d(4, 8, 3, groups=4),
    "same": nn.Conv2d(4, 6, (3, 5), padding="same"),
    "same with an even kernel": nn.Conv2d(4, 6, (2, 4), padding="same"),
    "valid": nn.Conv2d(4, 6, 3, padding="valid"),
    "transposed": nn.ConvTranspose2d(4, 6, 4, stride=2, padding=1),
    "transposed groups": nn.ConvTranspose2d(4, 6, 3, groups=2, bias=False),
    "output padding": nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1),
    "uneven output padding": nn.ConvTranspose2d(4, 6, 3, stride=3, padding=1, output_padding=(1, 0)),
}


@pytest.mark.parametrize("dialect", ["segnet", "bvlc"])
def test_filters(tmp_path, dialect):
    net = check_each(tmp_path, FILTERS, image(), dialect=dialect)
    held = {name.split(".")[-1]: [torch.from_numpy(blob.data) for blob in own] for name, own in net.params.items()}
    for i, layer in enumerate(FILTERS.values()):
        own = [layer.weight, *([layer.bias] if layer.bias is not None else [])]
        assert all(torch.equal(*pair) for pair in zip(held[str(i)], own, strict=True))


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 6, 3, dilation=2, padding=2),
        nn.Conv2d(4, 6, 3, dilation=(1, 2), padding="same"),
        nn.ConvTranspose2d(4, 6, 3, dilation=3, stride=2),
    ],
    ids=["conv", "uneven", "transposed"],
)
def test_dilation(tmp_path, layer):
    check(tmp_path, layer, image(), dialect="bvlc")


@pytest.mark.parametrize("shape", [(3, 7), (2, 5, 7), (2, 3, 4, 7)], ids=str)
def test_linear(tmp_path, shape):
    check(tmp_path, nn.Linear(7, 5), image(*shape))


@pytest.mark.parametrize("dialect", ["segnet", "bvlc", "deeplab"])
@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm(tmp_path, dialect, affine):
    layer = randomised(nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4, affine=affine, eps=0.01)))
    net = check(tmp_path, layer, image(), dialect=dialect)
    expected = {"segnet": ["BN"], "bvlc": ["BatchNorm", "Scale"][: 1 + affine]}
    assert types(net)[1:] == expected["segnet" if dialect == "segnet" else "bvlc"]
    assert net.outputs == ["0"]  # in place
    if dialect == "bvlc" and affine:
        held = [*net.params["1_norm"][:2], *net.params["1"]]
        own = [layer[1].running_mean, layer[1].running_var, layer[1].weight, layer[1].bias]
        assert all(torch.equal(torch.from_numpy(blob.data), one) for blob, one in zip(held, own, strict=True))


def test_batch_norm_of_vectors(tmp_path):
    check(tmp_path, randomised(nn.BatchNorm1d(7)), image(3, 7))


@pytest.mark.parametrize("dialect", ["segnet", "bvlc"])
@pytest.mark.parametrize("numbers", [(5, 1e-2, 0.75, 1.0), (3, 0.5, 0.6, 2.0)], ids=str)
def test_local_response_norm(tmp_path, numbers, dialect):
    net = check(tmp_path, nn.LocalResponseNorm(*numbers), image(2, 7, 5, 6), dialect=dialect)
    assert types(net) == ["LRN"]


SIZES = [(8, 8), (9, 13), (5, 6), (7, 10)]
WINDOWS = [(2, 2, 0), (3, 2, 0), (3, 2, 1), (2, 2, 1), (3, 3, 1), (2, 3, 0), (3, 1, 1)]


def on_all(pool):
    return Calls(lambda self, *images: [self.pool(x) for x in images], pool=pool)


@pytest.mark.parametrize("dialect", ["segnet", "bvlc"])
@pytest.mark.parametrize(("pool", "exact"), [(nn.MaxPool2d, True), (nn.AvgPool2d, False)], ids=["maximum", "mean"])
def test_pooling_is_exact_at_every_size(tmp_path, pool, exact, dialect):
    modules = {
        f"{window} {ceil_mode}": on_all(pool(*window, ceil_mode=ceil_mode))
        for window in WINDOWS
        for ceil_mode in (False, True)
    }
    check_each(tmp_path, modules, *(image(1, 2, *size) for size in SIZES), dialect=dialect, exact=exact)


def test_floor_is_said_where_the_dialect_can(tmp_path):
    assert types(check(tmp_path, nn.MaxPool2d(2), image(1, 2, 5, 5), dialect="bvlc")) == ["Pooling"]


@pytest.mark.parametrize("dialect", ["segnet", "bvlc"])
def test_unpooling(tmp_path, dialect):
    def back(ceil_mode, x):
        y, places = F.max_pool2d(x, 2, 2, ceil_mode=ceil_mode, return_indices=True)
        return F.max_unpool2d(y, places, 2, 2, output_size=x.shape[2:])

    modules = {
        str(ceil_mode): Calls(lambda *images, ceil_mode=ceil_mode: [back(ceil_mode, x) for x in images])
        for ceil_mode in (False, True)
    }
    check_each(tmp_path, modules, *(image(1, 2, *size) for size in SIZES), dialect=dialect, exact=True)


def test_indices_as_an_output(tmp_path):
    check(tmp_path, nn.MaxPool2d(3, 2, 1, return_indices=True), image(), dialect="segnet", exact=True)


WHOLE = {
    "mean": nn.AdaptiveAvgPool2d(1),
    "maximum": nn.AdaptiveMaxPool2d(1),
    "parts": nn.AdaptiveAvgPool2d((3, 1)),
    "nothing": Calls(lambda x: F.adaptive_avg_pool2d(F.relu(x), (9, 13))),
    "mean function": Calls(lambda x: x.mean((2, 3))),
    "mean with axes": Calls(lambda x: x.mean((-1, -2), keepdim=True)),
    "no padding counted": nn.AvgPool2d(3, 2, count_include_pad=False, ceil_mode=True),
}


def test_means_of_planes(tmp_path):
    check_each(tmp_path, WHOLE, image(), dialect="segnet")


ACTIVATIONS = {
    "relu": (nn.ReLU(), "segnet"),
    "leaky": (nn.LeakyReLU(0.1), "segnet"),
    "prelu": (nn.PReLU(4, 0.3), "segnet"),
    "prelu for all": (nn.PReLU(), "segnet"),
    "elu": (nn.ELU(0.7), "bvlc"),
    "sigmoid": (nn.Sigmoid(), "segnet"),
    "tanh": (nn.Tanh(), "segnet"),
    "silu": (nn.SiLU(), "segnet"),
    "swish": (nn.SiLU(), "bvlc"),
    "softplus": (nn.Softplus(), "segnet"),
    "relu6": (nn.ReLU6(), "bvlc"),
    "hardtanh": (nn.Hardtanh(-0.5, 0.7), "bvlc"),
    "clamp below": (Calls(lambda x: x.clamp(min=0)), "segnet"),
    "clamp above": (Calls(lambda x: x.clamp(max=0.3)), "bvlc"),
    "abs": (Calls(torch.abs), "segnet"),
    "exp": (Calls(torch.exp), "segnet"),
    "log": (Calls(lambda x: (x.abs() + 1).log()), "segnet"),
    "log2": (Calls(lambda x: (x.abs() + 1).log2()), "segnet"),
    "square": (Calls(lambda x: x**2), "segnet"),
    "root": (Calls(lambda x: (x.abs() + 1).sqrt()), "segnet"),
    "power of two": (Calls(lambda x: 2**x), "segnet"),
    "inverse": (Calls(lambda x: 3 / (x.abs() + 1)), "segnet"),
    "negative": (Calls(lambda x: -x), "segnet"),
    "scaled": (Calls(lambda x: (1 - 2 * x) / 3 - 0.5), "segnet"),
    "softmax": (nn.Softmax(1), "segnet"),
    "softmax last": (nn.Softmax(-1), "segnet"),
    "log softmax": (nn.LogSoftmax(1), "segnet"),
    "dropout": (nn.Sequential(nn.Conv2d(4, 4, 1), nn.Dropout(0.3)), "segnet"),
    "spatial dropout": (nn.Sequential(nn.Conv2d(4, 4, 1), nn.Dropout2d(0.3)), "segnet"),
}


def of_dialect(cases, dialect):
    return {name: module for name, (module, own) in cases.items() if own == dialect}


@pytest.mark.parametrize("dialect", ["segnet", "bvlc"])
def test_functions_of_each_value(tmp_path, dialect):
    check_each(tmp_path, of_dialect(ACTIVATIONS, dialect), image(), dialect=dialect)


def test_dropout_stays_a_layer(tmp_path):
    net = check(tmp_path, nn.Sequential(nn.Linear(7, 5), nn.ReLU(), nn.Dropout(0.3, inplace=True)).eval(), image(3, 7))
    assert types(net) == ["InnerProduct", "ReLU", "Dropout"] and net.outputs == ["0"]
    assert net.layers[-1].ratio == pytest.approx(0.3)


@pytest.mark.parametrize("dialect", ["segnet", "bvlc"])
def test_dropout_that_samples(tmp_path, dialect):
    module = Calls(lambda x: F.dropout(x.abs() + 1, 0.5, training=True))
    _, (found,), _ = both(tmp_path, module, image(1, 4, 50, 50), dialect=dialect)
    assert 0.4 < (found == 0).float().mean() < 0.6


CONSTANT = torch.rand(4, 1, 1) + 1
JOINED = {
    "sum": (lambda x, y: x + y, "segnet"),
    "difference": (lambda x, y: x - 2 * y, "segnet"),
    "alpha": (lambda x, y: torch.sub(x, y, alpha=3), "segnet"),
    "product": (lambda x, y: x * y, "segnet"),
    "quotient": (lambda x, y: x / (y.abs() + 1), "segnet"),
    "maximum": (lambda x, y: torch.maximum(x, y), "segnet"),
    "concat": (lambda x, y: torch.cat([x, y, x], 1), "segnet"),
    "concat of rows": (lambda x, y: torch.cat([x, y], -2), "segnet"),
    "stack": (lambda x, y: torch.stack([x, y], 1), "segnet"),
    "with itself": (lambda x, y: x * x + y, "segnet"),
    "per channel": (lambda x, y: x * y.mean((2, 3), keepdim=True), "bvlc"),
    "per pixel": (lambda x, y: x * y[:, :1], "bvlc"),
    "sum per channel": (lambda x, y: x + y.mean((2, 3), keepdim=True), "bvlc"),
    "constant sum": (lambda x, y: x + CONSTANT + y, "segnet"),
    "constant product": (lambda x, y: CONSTANT * x + y, "segnet"),
    "normalised": (lambda x, y: (x - CONSTANT) / CONSTANT + y, "segnet"),
    "normalised by layers": (lambda x, y: (CONSTANT - x) / CONSTANT + y, "bvlc"),
    "constant plane": (lambda x, y: x + torch.arange(9.0)[:, None] + y, "bvlc"),
}


@pytest.mark.parametrize("dialect", ["segnet", "bvlc"])
def test_joining(tmp_path, dialect):
    modules = {name: Calls(function) for name, function in of_dialect(JOINED, dialect).items()}
    check_each(tmp_path, modules, image(), image(), dialect=dialect)


SHAPES = {
    "flatten": lambda x: x.flatten(1),
    "view": lambda x: x.view(x.size(0), -1),
    "reshape": lambda x: x.reshape(2, 2, 2, 9 * 13),
    "middle": lambda x: x.flatten(2),
    "all": lambda x: x.flatten(),
    "squeeze": lambda x: x.mean((2, 3), keepdim=True).squeeze(-1).squeeze(-1),
    "unsqueeze": lambda x: x.unsqueeze(1),
    "permute ones": lambda x: x.mean((2, 3), keepdim=True).permute(0, 2, 3, 1),
    "transpose ones": lambda x: x[:, :1].transpose(1, 2),
    "slice": lambda x: x[:, 1:3],
    "to the end": lambda x: x[:, :, 2:],
    "from the start": lambda x: x[..., :-3],
    "inside": lambda x: x[:, :, 1:-1, 2:-2],
    "select": lambda x: x[:, 2],
    "select last": lambda x: x[..., -1],
    "narrow": lambda x: x.narrow(2, 3, 4),
    "zeros": lambda x: F.pad(x, (1, 2, 0, 3)),
    "zeros and cut": lambda x: F.pad(x, (1, -2, -1, 3)),
    "clone": lambda x: x.clone().detach().contiguous() + 0,
    "identity": lambda x: x,
}


@pytest.mark.parametrize("dialect", ["segnet", "bvlc"])
def test_shapes(tmp_path, dialect):
    modules = {name: Calls(function) for name, function in SHAPES.items()}
    check_each(tmp_path, modules, image(), dialect=dialect)


PARTS = {
    "chunk": lambda x: x.chunk(2, 1),
    "uneven chunk": lambda x: x.chunk(3, 1),
    "split": lambda x: torch.split(x, [1, 3], 1),
    "unbind": lambda x: x.unbind(1),
    "one of them": lambda x: x.chunk(4, 1)[2],
    "tiles": lambda x: x[:, :1].expand(-1, 3, -1, -1),
}


def test_parts(tmp_path):
    modules = {name: Calls(function) for name, function in PARTS.items()}
    check_each(tmp_path, modules, image(), dialect="bvlc", exact=True)


def test_zeros_join_the_convolution(tmp_path):
    module = nn.Sequential(nn.ZeroPad2d((2, 2, 1, 1)), nn.Conv2d(4, 5, 3, padding=1))
    net = check(tmp_path, module, image())
    assert types(net) == ["Convolution"]
    uneven = nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(4, 5, 3, stride=2))
    (tmp_path / "uneven").mkdir()
    check(tmp_path / "uneven", uneven, image())


RESIZED = {
    "nearest": nn.Upsample(scale_factor=2),
    "nearest uneven": nn.Upsample((27, 26)),
    "nearest exact": nn.Upsample(scale_factor=3, mode="nearest-exact"),
    "bilinear 2": nn.Upsample(scale_factor=2, mode="bilinear"),
    "bilinear 3": nn.Upsample(scale_factor=3, mode="bilinear"),
    "bilinear 4": nn.Upsample(scale_factor=4, mode="bilinear"),
    "bilinear uneven": nn.Upsample((27, 26), mode="bilinear"),
    "bilinear one axis": nn.Upsample((9, 26), mode="bilinear"),
}


@pytest.mark.parametrize("dialect", ["segnet", "bvlc"])
def test_resizing_is_exact_at_the_edges_too(tmp_path, dialect):
    check_each(tmp_path, RESIZED, image(), dialect=dialect)


@pytest.mark.parametrize("plane", [(1, 1), (1, 4), (2, 2)], ids=str)
def test_resizing_of_small_planes(tmp_path, plane):
    check(tmp_path, nn.Upsample(scale_factor=3, mode="bilinear"), image(1, 2, *plane))


def test_corners_that_stay(tmp_path):
    module = Calls(lambda x: F.interpolate(x, (20, 31), mode="bilinear", align_corners=True))
    assert types(check(tmp_path, module, image(), dialect="deeplab")) == ["Interp"]


CHOICES = {
    "argmax": Calls(lambda x: x.argmax(1)),
    "argmax kept": Calls(lambda x: x.argmax(1, keepdim=True)),
    "argmax of columns": Calls(lambda x: x.argmax(-1)),
    "amax": Calls(lambda x: x.amax(1)),
    "max": Calls(lambda x: tuple(x.max(1))),
    "max alone": Calls(lambda x: x.max(1, keepdim=True)[0]),
    "places alone": Calls(lambda x: x.max(1)[1]),
}


def test_choosing(tmp_path):
    check_each(tmp_path, CHOICES, image(), dialect="segnet", exact=True)


@pytest.mark.parametrize("dialect", [name for name in DIALECTS if name != "deconvnet"])
def test_every_dialect(tmp_path, dialect):
    module = randomised(nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)))
    check(tmp_path, module, image(), dialect=dialect)


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_a_scale_factor_that_does_not_give_the_size_is_refused(tmp_path, mode):
    module = Calls(lambda x: F.interpolate(x, scale_factor=3.1, mode=mode))
    with pytest.raises(CaffeError, match="scale factors"):
        both(tmp_path, module, image(1, 2, 6, 6))


@pytest.mark.parametrize("layer", [nn.Conv2d(4, 2, 3), nn.ConvTranspose2d(4, 2, 3), nn.MaxPool2d(2)])
def test_planes_without_a_batch_are_refused(tmp_path, layer):
    with pytest.raises(CaffeError, match=r"expected \(N, C, H, W\)"):
        both(tmp_path, layer, image(4, 5, 5))


def test_an_output_given_twice(tmp_path):
    check(tmp_path, Calls(lambda x: (lambda y: (y, y))(F.relu(x))), image())


def test_an_input_that_nobody_takes_is_no_output(tmp_path):
    assert types(check(tmp_path, Calls(lambda x, y: x + 1), image(), image(2, 3)))[-1] == "Silence"


@pytest.mark.parametrize("dialect", ["segnet", "bvlc"])
@pytest.mark.parametrize(
    "write",
    [
        lambda x, y: y.relu_(),
        lambda x, y: x.relu_(),
        lambda x, y: F.dropout(y, 0.5, training=False).relu_(),
    ],
    ids=["after it", "into what it took", "after two"],
)
def test_what_writes_into_a_dropout_changes_its_input_too(tmp_path, dialect, write):
    def module(image):
        x = image.tanh()
        y = F.dropout(x, 0.5, training=False)
        write(x, y)
        return x + image, y * 2.0

    check(tmp_path, Calls(module), image(), dialect=dialect)


def test_a_dropout_between_others_in_place_stays_a_layer(tmp_path):
    parts = nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU(inplace=True), nn.Dropout(), nn.Conv2d(4, 4, 3)).eval()
    assert "Dropout" in types(check(tmp_path, parts, image(), dialect="bvlc"))
