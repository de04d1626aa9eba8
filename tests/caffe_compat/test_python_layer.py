"""Layers whose classes the user wrote in Python for pycaffe."""

import copy
import pickle
import sys

import numpy as np
import pytest
import torch

import caffe_compat as caffe
from caffe_compat.errors import NetError
from tests.caffe_compat.nets import inputs

MINE = """
import caffe
import numpy as np


class Times(caffe.Layer):
    def setup(self, bottom, top):
        import caffe
        self.factor = float(self.param_str)
        self.phases = [self.phase == caffe.TEST]

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].data.shape)

    def forward(self, bottom, top):
        self.sizes = bottom[0].num, bottom[0].channels, bottom[0].height, bottom[0].width
        top[0].data[...] = 0
        for i in range(len(top[0].data)):
            top[0].data[i, ...] += self.factor * bottom[0].data[i]

    def backward(self, top, propagate_down, bottom):
        bottom[0].diff[...] = self.factor * top[0].diff


class Square(Times):
    def setup(self, bottom, top):
        pass

    def forward(self, bottom, top):
        self.x = bottom[0].data
        top[0].data[...] = self.x**2

    def backward(self, top, propagate_down, bottom):
        bottom[0].diff[...] = 2 * bottom[0].data * top[0].diff + (top[0].data != bottom[0].data**2)
        top[0].diff[...] = 7


class Distance(caffe.Layer):
    def setup(self, bottom, top):
        if len(bottom) != 2:
            raise Exception("two bottoms, please")

    def reshape(self, bottom, top):
        self.diff = np.zeros_like(bottom[0].data)
        top[0].reshape(1)

    def forward(self, bottom, top):
        self.diff[...] = bottom[0].data - bottom[1].data
        top[0].data[...] = np.sum(self.diff**2) / bottom[0].num / 2.0

    def backward(self, top, propagate_down, bottom):
        self.asked = propagate_down
        for i in range(2):
            if propagate_down[i]:
                bottom[i].diff[...] = (1, -1)[i] * top[0].diff[0] * self.diff / bottom[i].num


class Pictures(caffe.Layer):  # each of another height
    def setup(self, bottom, top):
        self.height = 2

    def reshape(self, bottom, top):
        top[0].reshape(1, 1, self.height, 3)
        top[1].reshape(1)

    def forward(self, bottom, top):
        top[0].data[...] = np.arange(3)
        top[1].data[...] = self.height
        self.height += 1


class Files(Pictures):
    def setup(self, bottom, top):
        open("/no/such/list.txt")


class Weights(caffe.Layer):
    def setup(self, bottom, top):
        self.blobs.add_blob(3)
        self.blobs.add_blob(1)
        self.blobs[0].data[...] = [1, 2, 3]

    def reshape(self, bottom, top):
        top[0].reshape(*(bottom[0].shape if bottom else [1, 3]))

    def forward(self, bottom, top):
        self.blobs[1].data[0] += 1  # counts, as a running mean would
        top[0].data[...] = (bottom[0].data if bottom else 1) * self.blobs[0].data

    def backward(self, top, propagate_down, bottom):
        self.blobs[0].diff[...] = (top[0].diff * (bottom[0].data if bottom else 1)).sum(0)
        if bottom and propagate_down[0]:
            bottom[0].diff[...] = top[0].diff * self.blobs[0].data


class Positive(caffe.Layer):  # in place
    def setup(self, bottom, top):
        pass

    def reshape(self, bottom, top):
        pass

    def forward(self, bottom, top):
        self.negative = top[0].data < 0
        top[0].data[self.negative] = 0

    def backward(self, top, propagate_down, bottom):
        bottom[0].diff[self.negative] = 0


class Broken(Times):
    def __init__(self, *args):
        super().__init__(*args)
        self.fail("__init__")

    def fail(self, method):
        if method == self.param_str:
            raise KeyError(method)

    def setup(self, bottom, top):
        self.fail("setup")

    def reshape(self, bottom, top):
        self.fail("reshape")
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom, top):
        self.fail("forward")

    def backward(self, top, propagate_down, bottom):
        self.fail("backward")


class Metric(caffe.Layer):
    setup = reshape = forward = lambda self, bottom, top: None


class NoLayer:
    pass


class Half(caffe.Layer):
    def setup(self, bottom, top):
        pass
"""


def python(cls, bottoms, tops, param_str="", more="", module="mine"):
    names = [f'bottom: "{name}"' for name in bottoms.split()] + [f'top: "{name}"' for name in tops.split()]
    param = f'module: "{module}" layer: "{cls}" param_str: "{param_str}"'
    return f'\nlayer {{ name: "{cls.lower()}" type: "Python" {" ".join(names)} python_param {{ {param} }} {more} }}'


@pytest.fixture
def build(tmp_path):
    """Build a net from a prototxt beside which the module lies."""
    loaded = set(sys.modules)
    (tmp_path / "mine.py").write_text(MINE)

    def from_text(text, phase=caffe.TEST, **options):
        (tmp_path / "net.prototxt").write_text(text)
        path = list(sys.path)
        try:
            return caffe.Net(tmp_path / "net.prototxt", phase, **options)
        finally:
            assert sys.path == path and sys.modules.get("caffe") is not caffe

    yield from_text
    for name in set(sys.modules) - loaded:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


X = np.array([[1.0, -2, 3], [4, 5, -6]])


def test_forward_and_backward_as_pycaffe(build):
    built = build("force_backward: true " + inputs(x=(2, 3)) + python("Times", "x", "y", "2.5"))
    y = built.blobs["y"].data
    built.forward(x=X)
    assert np.array_equal(y, 2.5 * X) and built.layers[-1].sizes == (2, 3, 1, 1)
    assert built.layers[-1].phases == [True] and built.layers[-1].type == "Python"
    assert np.array_equal(built.backward(y=X)["x"], 2.5 * X)
    built.blobs["x"].reshape(1, 3)
    assert np.array_equal(built.forward(x=X[:1])["y"], 2.5 * X[:1])


def test_passes_in_torch_do_not_touch_each_other(build):
    built = build(inputs(x=(2, 3)) + python("Square", "x", "y"))
    first, second, other = (torch.tensor(X).float().requires_grad_() for _ in range(3))
    y = built(x=first)["y"]
    built(x=2 * second)["y"].sum().backward()
    (y + other).sum().backward()
    assert np.array_equal(y.detach(), X**2) and np.array_equal(first.grad, 2 * X)
    assert np.array_equal(second.grad, 8 * X) and (other.grad == 1).all()
    assert np.array_equal(torch.compile(built, backend="eager")(x=first.detach())["y"], X**2)


def test_gradients_agree_with_finite_differences(build):
    layer = build(inputs(x=(2, 3)) + python("Weights", "x", "y")).double().layer["weights"]
    assert torch.autograd.gradcheck(lambda x, w: layer(x)[0], (torch.tensor(X).requires_grad_(), layer.blob0))
    layer = build(inputs(x=(2, 3), z=(2, 3)) + python("Distance", "x z", "loss")).double().layer["distance"]
    assert torch.autograd.gradcheck(layer, tuple(torch.tensor(v).requires_grad_() for v in (X, X**2)))


@pytest.mark.parametrize(("weight", "expected"), [("", 0.0), ("loss_weight: 3", 3.0)])
def test_a_loss_only_with_a_weight(build, weight, expected):
    scale = 'layer { name: "scale" type: "Scale" bottom: "x" top: "s" }'
    built = build(inputs(x=(2, 3), z=(2, 3)) + scale + python("Distance", "s z", "loss", more=weight), caffe.TRAIN)
    assert built.forward(x=X, z=0 * X)["loss"][0] == (X**2).sum() / 4
    built.backward()
    assert np.allclose(built.params["scale"][0].diff, expected * (X**2).sum(0) / 2)
    assert not weight or built.layers[-1].asked == [True, False]


def test_a_data_layer_sets_the_size_of_each_pass(build):
    pool = 'layer { name: "p" type: "Pooling" bottom: "x" top: "p" top: "m" pooling_param { kernel_size: 2 } }'
    size = "upsample_param { upsample_h: 9 upsample_w: 3 }"
    up = f'layer {{ name: "u" type: "Upsample" bottom: "p" bottom: "m" top: "u" {size} }}'
    built = build(inputs(other=(1,)) + python("Pictures", "", "x n") + pool + up)
    for height in (2, 3):
        tops = built.forward()
        assert built.blobs["x"].shape == (1, 1, height, 3) and tops["n"] == height
        assert built.blobs["p"].shape == (1, 1, height - 1, 2) and tops["u"].max() == 2
    assert built(n=torch.ones(1), x=torch.ones(1, 1, 2, 3))["u"].sum() == 2  # fed, so that nothing is read
    assert built(other=torch.ones(1))["n"] == 4 and built.blobs["x"].shape == (1, 1, 4, 3)


@pytest.mark.parametrize("bottom", ["x", ""])
@pytest.mark.parametrize("suffix", ["caffemodel", "caffemodel.h5"])
def test_learnt_blobs(build, tmp_path, bottom, suffix):
    text = "force_backward: true " + (inputs(x=(2, 3)) if bottom else "") + python("Weights", bottom, "y")
    built = build(text, caffe.TRAIN)
    x, factor = ({"x": X}, X) if bottom else ({}, np.ones((1, 3)))
    weights, count = built.params["weights"]
    assert weights.data.tolist() == [1, 2, 3] and built.layers[-1].blobs[0] is weights
    assert np.array_equal(built.forward(**x)["y"], factor * [1, 2, 3])
    for times in (1, 2):
        built.backward(y=np.ones_like(factor))
        assert np.array_equal(weights.diff, times * factor.sum(0))
    weights.data[...] -= weights.diff
    built.forward(**x)
    built.save(tmp_path / f"w.{suffix}")
    other = build(text)
    other.copy_from(tmp_path / f"w.{suffix}")
    assert np.array_equal(other.params["weights"][0].data, weights.data) and other.params["weights"][1].data == 2
    assert np.array_equal(other.forward(**x)["y"], factor * weights.data)
    assert count.data == 2 and other.params["weights"][1].data == 3


def test_an_optimiser_moves_the_blobs(build):
    built = build(inputs(x=(2, 3)) + python("Weights", "x", "y"), caffe.TRAIN)
    optimiser = torch.optim.SGD(built.parameters(), 1.0)
    built(x=torch.tensor(X).float())["y"].sum().backward()
    optimiser.step()
    assert built.params["weights"][0].data.tolist() == [1 - 5, 2 - 3, 3 + 3]
    assert np.array_equal(built(x=torch.ones(1, 3))["y"].detach(), [[-4, -1, 6]])


def test_in_place(build):
    times = python("Times", "x", "y", "-1").replace("times", "first")
    built = build("force_backward: true " + inputs(x=(2, 3)) + times + python("Positive", "y", "y"))
    expected = np.maximum(-X, 0)
    assert np.array_equal(built.forward(x=X)["y"], expected)
    assert np.array_equal(built.backward(y=X)["x"], -X * (X < 0))
    x = torch.tensor(X).float().requires_grad_()
    y = built(x=x)["y"]
    y.sum().backward()
    assert np.array_equal(y.detach(), expected) and np.array_equal(x.grad, -1.0 * (X < 0))


@pytest.mark.parametrize("method", ["__init__", "setup", "reshape"])
def test_an_exception_while_the_net_is_built(build, method):
    with pytest.raises(
        NetError, match=rf"net\.prototxt:2: layer 'broken' \(Python\): mine\.Broken\.{method} raised KeyError"
    ) as caught:
        build(inputs(x=(2, 3)) + python("Broken", "x", "y", method))
    assert isinstance(caught.value.__cause__, KeyError) and caught.traceback


def test_an_exception_in_a_pass(build):
    built = build("force_backward: true " + inputs(x=(2, 3)) + python("Broken", "x", "y"))
    x = torch.tensor(X).float().requires_grad_()

    def fails(method, run):
        built.layers[-1].user.param_str = method
        with pytest.raises(
            NetError, match=rf":2: layer 'broken' \(Python\): mine\.Broken\.{method} raised Key"
        ) as caught:
            run()
        assert isinstance(caught.value.__cause__.__cause__, KeyError)
        built.layers[-1].user.param_str = ""

    fails("forward", lambda: built.forward(x=X))
    built.forward(x=X)
    y = built(x=x)["y"].sum()
    fails("backward", built.backward)
    fails("backward", y.backward)
    built.blobs["x"].reshape(1, 3)
    built.layers[-1].user.param_str = "reshape"
    with pytest.raises(NetError, match="layer 'broken'") as caught:
        built.reshape()
    assert isinstance(caught.value.__cause__.__cause__.__cause__, KeyError)


def test_a_layer_without_backward(build):
    text = inputs(x=(2, 3)) + python("Metric", "x", "y")
    built = build(text)
    built.forward(x=X)
    built.backward()  # nobody asks
    built = build("force_backward: true " + text)
    built.forward(x=X)
    for run in (built.backward, built(x=torch.tensor(X).requires_grad_())["y"].sum().backward):
        with pytest.raises(NetError, match=r"layer 'metric'.*has no backward pass"):
            run()


def test_phase(build):
    built = build(inputs(x=(2, 3)) + python("Metric", "x", "y"), caffe.TRAIN)
    user = built.layers[-1].user
    assert (user.phase, built.eval() and user.phase) == (caffe.TRAIN, caffe.TEST)
    user.phase = "always"
    built.train()
    assert user.phase == "always"


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))], ids=["copy", "pickle"])
def test_copies_are_equal_and_independent(build, clone):
    first = build(inputs(x=(2, 3)) + python("Weights", "x", "y"))
    y = first.forward(x=X)["y"].copy()
    second = clone(first)
    second.params["weights"][0].data[...] = 0
    assert np.array_equal(first.forward(x=X)["y"], y) and not second.forward(x=X)["y"].any()
    assert second.layers[-1].user is not first.layers[-1].user


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (python("Tims", "x", "y"), r"no 'Tims' in .*mine\.py; did you mean 'Times'"),
        (
            python("NoLayer", "x", "y"),
            r"does not derive from caffe_compat\.Layer; expected `class NoLayer\(caffe\.Layer\)`",
        ),
        (python("Half", "x", "y"), "'Half' in .*has no reshape and no forward"),
        (
            python("Times", "x", "y", module="rusty"),
            "module 'rusty' cannot be imported, ZeroDivisionError: division by",
        ),
        (
            python("Times", "x", "y", module="needy"),
            "'needy' cannot be imported, ModuleNotFoundError: .*'absent_thing'",
        ),
        ('layer { name: "l" type: "Python" bottom: "x" top: "y" }', "no `module` or no `layer` in `python_param`"),
    ],
)
def test_classes_that_cannot_be_had(build, tmp_path, layer, said):
    (tmp_path / "rusty.py").write_text("1 / 0")
    (tmp_path / "needy.py").write_text("import absent_thing")
    with pytest.raises(NetError, match=said):
        build(inputs(x=(2, 3)) + layer)


def test_where_modules_are_looked_for(build, tmp_path, monkeypatch):
    current, path = tmp_path / "here", tmp_path / "path"
    for folder in (current, path):
        folder.mkdir()
        (folder / f"from_{folder.name}.py").write_text(MINE)
    (path / "mine.py").write_text(MINE.replace("self.factor = float", "self.factor = 10 * float"))
    monkeypatch.chdir(current)
    layers = python("Times", "x", "y", "1", module="from_here")
    assert np.array_equal(build(inputs(x=(2, 3)) + layers).forward(x=X)["y"], X)
    monkeypatch.syspath_prepend(path)
    layers = python("Times", "x", "y", "1")
    assert np.array_equal(build(inputs(x=(2, 3)) + layers).forward(x=X)["y"], 10 * X)  # Python's own path goes first
    with pytest.raises(NetError) as caught:
        build(inputs(x=(2, 3)) + python("Times", "x", "y", module="nowhere.at_all"))
    assert "there is no Python module 'nowhere.at_all'; looked on Python's path" in str(caught.value)
    assert f"in {tmp_path}, in {current}. Put it beside the prototxt" in str(caught.value)
    assert "PYTHONPATH" in str(caught.value) and "input_shapes" not in str(caught.value)


def test_a_data_layer_whose_module_is_missing(build):
    pool = 'layer { name: "p" type: "Pooling" bottom: "x" top: "p" pooling_param { kernel_size: 2 } }'
    text = python("Data", "", "x n", module="voc_layers") + pool
    with pytest.raises(NetError, match=r"no Python module 'voc_layers'.*input_shapes=\{'x': \(N, C, H, W\), 'n': \("):
        build(text, input_shapes={"x": (1, 3, 4, 6)})
    built = build(text, input_shapes={"x": (1, 3, 4, 6), "n": (1,)})
    built.blobs["x"].data[...] = 2
    built.forward(start="p")
    assert built.blobs["p"].data.shape == (1, 3, 3, 5) and (built.blobs["p"].data == 2).all()
    assert (built(x=torch.ones(1, 3, 2, 2), n=torch.ones(1))["p"] == 1).all()
    with pytest.raises(NetError, match=r"layer 'data'.*no Python module 'voc_layers'"):
        built.forward()


def test_a_data_layer_whose_data_is_missing(build):
    text = python("Files", "", "x n")
    with pytest.raises(NetError, match=r"Files\.setup raised FileNotFoundError.*list\.txt'\. .*by hand.*input_shapes="):
        build(text)
    built = build(text, input_shapes={"x": (1, 3, 4, 6), "n": (1,)})
    with pytest.raises(NetError, match="layer 'files'") as caught:
        built.forward()
    assert isinstance(caught.value.__cause__.__cause__, FileNotFoundError)


def test_a_data_layer_for_which_shapes_are_given_runs_when_it_is_there(build):
    built = build(python("Pictures", "", "x n"), input_shapes={"x": (1, 1, 7, 3), "n": (1,)})
    assert built.blobs["x"].shape == (1, 1, 7, 3)
    assert built.forward()["x"].shape == (1, 1, 2, 3)


def test_an_installed_caffe_goes_first(build, tmp_path, monkeypatch):
    (tmp_path / "site" / "caffe").mkdir(parents=True)
    monkeypatch.syspath_prepend(tmp_path / "site")
    text = inputs(x=(2, 3)) + python("Times", "x", "y", "1")
    assert build(text).layers[-1].factor == 1  # an empty folder of that name is none
    (tmp_path / "site" / "caffe" / "__init__.py").write_text("class Layer: pass")
    (tmp_path / "theirs.py").write_text(MINE)
    with pytest.raises(NetError, match="Where a Caffe is installed"):
        build(text.replace("mine", "theirs"))
