"""Where the modules of Python layers are looked for, and what is said of those that cannot be had."""

import numpy as np
import pytest
import torch

from caffe_compat.errors import NetError
from tests.caffe_compat.nets import inputs
from tests.caffe_compat.python_layers import MINE, beside_mine, python


@pytest.fixture
def build(tmp_path):
    with beside_mine(tmp_path) as from_text:
        yield from_text


X = np.array([[1.0, -2, 3], [4, 5, -6]])


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
