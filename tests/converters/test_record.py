"""The recorder: what it keeps of a net's pass, and that it still runs beside the Caffes of 2014."""

import ast
import sys
from pathlib import Path

import numpy as np
import pytest

import caffe_compat as caffe
from converters import record
from converters.record_file import Record
from tests.caffe_compat.nets import AUTOENCODER, inputs, net

SOURCE = Path(record.__file__).read_text()
MODULES = {"argparse", "importlib", "io", "json", "os", "platform", "re", "sys", "tempfile", "zlib", "numpy"}


NEVER = {"JoinedStr", "NamedExpr", "AnnAssign", "Nonlocal", "YieldFrom", "Await", "MatMult", "Match", "Starred"}
NEVER |= {"AsyncFunctionDef", "AsyncFor", "AsyncWith"}
SOMETIMES = {
    ast.arg: lambda node: node.annotation,
    ast.arguments: lambda node: node.kwonlyargs or node.posonlyargs,
    ast.FunctionDef: lambda node: node.returns,
    ast.ClassDef: lambda node: node.keywords or not node.bases,  # without bases it is one of the old kind
    ast.Raise: lambda node: node.cause,
    ast.Call: lambda node: getattr(node.func, "id", "") == "super" or opens_text(node),
}


def opens_text(call):
    """open() of a text, where Python 2 knows no encoding."""
    mode = getattr(call.args[1], "value", "") if len(call.args) > 1 else ""
    return getattr(call.func, "id", "") == "open" and "b" not in mode


def too_new(tree):
    """What Python 2.7 cannot parse, or understands otherwise."""
    last_arguments = [node.args[-1] for node in ast.walk(tree) if isinstance(node, ast.Call) and node.args]
    for node in ast.walk(tree):
        if node in last_arguments and isinstance(node, ast.Starred):
            continue  # f(*x) is old
        if type(node).__name__ in NEVER or SOMETIMES.get(type(node), lambda node: False)(node):
            yield node


def test_python_2_reads_it():
    tree = ast.parse(SOURCE)
    assert [f"line {getattr(node, 'lineno', '?')}: {ast.dump(node)[:60]}" for node in too_new(tree)] == []
    assert SOURCE.isascii(), "Python 2 needs a coding line for other characters"
    assert "from __future__ import print_function" in SOURCE
    names = {a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names}
    assert names <= MODULES
    assert [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)] == ["__future__"]


@pytest.mark.parametrize(
    "line",
    [
        *("def f(a: int): pass", "def f() -> int: pass", "def f(*, a): pass", "x = f'{y}'", "x: int = 1"),
        *("class A: pass", "raise A from b", "f = open('a')", "x = [*y]", "f(*x, y)", "x = a @ b", "super().f()"),
    ],
)
def test_newer_constructs_are_seen(line):
    assert list(too_new(ast.parse(line)))


def test_sample_positions_never_change():
    assert record.sample_positions("top/3/0", 10**6, 4).tolist() == [38973, 392469, 563758, 769170]
    assert record.crc(np.array([1, -2.5], np.float32)) == 0x560302F4


def test_layers_of_a_text():
    text = """
    name: "n" # layer { name: "no" }
    input: "data" input_dim: 1
    layers { name: "a" type: POOLING bottom: "data" top: 'p' top: "m" pooling_param { name: "b" pool: MAX } }
    layer { name: "r" type: "ReLU" bottom: "p" top: "p" include: { phase: TRAIN } param < name: "w" > }
    layer { name: "c" type: "Concat" bottom: ["p", "m"] top: "x{y" concat_param { axis: 1 } }
    """
    found = record.described_layers(text)
    assert [layer["name"] for layer in found] == ["a", "r", "c"]
    assert found[0] == {"name": "a", "type": "POOLING", "bottom": ["data"], "top": ["p", "m"]}
    assert found[2]["bottom"] == ["p", "m"] and found[2]["top"] == ["x{y"]
    assert [one and one["name"] for one in record.layers_of_net(["input", "a", "p_a_0_split", "c"], found)] == [
        None,
        "a",
        None,
        "c",
    ]


@pytest.mark.parametrize("plane", [(6, 8), (300, 500)])
def test_positions_come_back(plane):
    layers = (
        'layer { name: "p" type: "Pooling" bottom: "x" top: "y" top: "m" pooling_param { kernel_size: 3 stride: 2 } }'
    )
    text = inputs(x=(2, 3, *plane)) + layers
    recorder = record.Recorder(net(text), text)
    recorder.forward({"x": np.random.default_rng(0).random((2, 3, *plane), np.float32)})
    found = Record({**recorder.meta}, recorder.arrays)
    assert found.has_mask(found.stages[0], 1) and not found.has_mask(found.stages[0], 0)
    assert np.array_equal(found.mask(found.stages[0], 1), recorder.net.blobs["m"].data)
    assert recorder.arrays["top/0/1/index"].dtype == np.uint8


def recorded(text, samples=record.SAMPLES, phase=caffe.TEST):
    own = net(text, phase)
    recorder = record.Recorder(own, text, samples)
    shapes = {name: own.blobs[name].shape for name in own.inputs}
    recorder.forward(record.input_values(shapes, {}, 1))
    return own, recorder


def test_in_place_layers_are_seen_one_by_one():
    own, recorder = recorded(AUTOENCODER)
    assert [stage["name"] for stage in recorder.meta["stages"]][:4] == ["conv1", "bn1", "relu1", "pool1"]
    conv, norm, relu = (recorder.arrays[f"top/{i}/0"] for i in range(3))
    assert not np.allclose(conv, norm) and norm.min() < 0 and np.array_equal(np.maximum(norm, 0), relu)
    assert np.array_equal(own.blobs["conv1"].data, relu)


def test_large_blobs_are_sampled():
    own, recorder = recorded(AUTOENCODER, samples=50)
    values = own.blobs["prob"].data
    assert "top/6/0" not in recorder.arrays and recorder.arrays["top/6/0/sample"].shape == (50,)
    positions = record.sample_positions("top/6/0", values.size, 50)
    assert np.array_equal(recorder.arrays["top/6/0/sample"], values.ravel()[positions])
    total, absolute, low, high = recorder.arrays["top/6/0/stats"]
    assert (
        total == pytest.approx(140) and absolute == pytest.approx(140) and (low, high) == (values.min(), values.max())
    )
    assert np.array_equal(recorder.arrays["labels"], values.argmax(1)) and recorder.arrays["labels"].dtype == np.uint8


def test_what_data_layers_make_may_be_given():
    text = """layer { name: "d" type: "DenseImageData" top: "data" top: "label"
      dense_image_data_param { source: "no" batch_size: 1 } }
    layer { name: "c" type: "Convolution" bottom: "data" top: "c" convolution_param { num_output: 2 kernel_size: 1 } }
    layer { name: "l" type: "SoftmaxWithLoss" bottom: "c" bottom: "label" top: "l" }"""
    own = net(text, input_shapes={"data": (1, 3, 4, 5), "label": (1, 1, 4, 5)})
    recorder = record.Recorder(own, text)
    given = {"data": np.full((1, 3, 6, 7), 2, np.float32), "label": np.ones((1, 1, 6, 7), np.float32)}
    recorder.forward(given)
    assert all(np.array_equal(recorder.arrays[f"input/{name}"], values) for name, values in given.items())
    assert own.blobs["c"].data.shape == (1, 2, 6, 7)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a.prototxt").write_text(AUTOENCODER)
    net(AUTOENCODER).save("a.caffemodel")
    np.save("image.npy", np.ones((1, 3, 10, 14), np.float32))
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "no values for the input 'data'; give --input data=FILE.npy, or --random 1"),
        (["--input", "dat=image.npy"], "--input dat: the net has no such blob"),
        (["--input", "data=missing.npy"], "missing.npy"),
        (["--random", "1", "--caffe", "no_such_caffe"], "no_such_caffe"),
    ],
)
def test_errors(folder, arguments, said, capsys):
    base = ["a.prototxt", "a.caffemodel", "--output", "r.npz", "--caffe", "caffe_compat"]
    assert record.main([*base, *arguments]) == 1
    assert said in capsys.readouterr().err and not list(folder.glob("r.npz*"))


def test_existing_record_needs_force(folder, capsys):
    Path("r.npz").write_text("precious")
    base = ["a.prototxt", "a.caffemodel", "--output", "r.npz", "--caffe", "caffe_compat", "--input", "data=image.npy"]
    assert record.main(base) == 1 and "--force" in capsys.readouterr().err
    assert Path("r.npz").read_text() == "precious"
    assert record.main([*base, "--force"]) == 0


def test_it_runs_alone(folder):
    """As a script in another folder, away from the package."""
    import subprocess

    Path("record.py").write_text(SOURCE)
    done = subprocess.run([sys.executable, "record.py", "--help"], capture_output=True, text=True, check=True)
    assert "--gradients" in done.stdout
