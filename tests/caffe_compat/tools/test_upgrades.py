"""upgrade_net_proto_text, upgrade_net_proto_binary and upgrade_solver_proto_text."""

from pathlib import Path

import numpy as np
import pytest

from prototxt import text
from prototxt.caffe_pb2 import NetParameter, SolverParameter
from prototxt.caffemodel import read_caffemodel
from prototxt.net_file import read_net
from tests.caffe_compat.nets import AUTOENCODER
from tests.caffe_compat.tools.said import fail, run
from tests.prototxt import handmade

GOLDEN = Path(__file__).parents[2] / "golden" / "upgrade"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["v0_small", "v1_small"])
@pytest.mark.parametrize("dialect", ["segnet", "bvlc"])
def test_text_is_what_caffes_tool_wrote(folder, capsys, name, dialect):
    said = run(capsys, "upgrade_net_proto_text", GOLDEN / f"{name}.prototxt", "out.prototxt", "-dialect", dialect)
    assert said[-1] == "Wrote upgraded NetParameter text proto to out.prototxt"
    recorded, _ = text.read(GOLDEN / f"{name}.upgraded_{dialect}.prototxt", NetParameter)
    assert text.read("out.prototxt", NetParameter)[0] == recorded


def test_text_of_today_is_told_and_written(folder, capsys):
    (folder / "net.prototxt").write_text(AUTOENCODER)
    said = run(capsys, "upgrade_net_proto_text", "net.prototxt", "out.prototxt")
    assert said[0] == "File already in latest proto format: net.prototxt"
    assert read_net("out.prototxt").message == read_net("net.prototxt").message


def test_binary_keeps_every_weight(folder, capsys):
    weights, bias = np.arange(6, dtype=np.float32), np.float32([7, 8])
    blobs = [(6, handmade.blob(*weights, legacy=(2, 3, 1, 1))), (6, handmade.blob(*bias, legacy=(1, 1, 1, 2)))]
    old = handmade.net(handmade.v1_layer("conv", 4, *blobs))
    inputs = handmade.message((3, "data"), *[(4, size) for size in (1, 3, 5, 5)])
    (folder / "old.caffemodel").write_bytes(old + inputs)
    assert read_caffemodel("old.caffemodel").generation == "V1"
    said = run(capsys, "upgrade_net_proto_binary", "old.caffemodel", "new.caffemodel")
    assert said == ["Wrote upgraded NetParameter binary proto to new.caffemodel"]
    model = read_caffemodel("new.caffemodel")
    (conv,) = model.layers
    assert (model.generation, conv.type, conv.name) == ("V2", "Convolution", "conv")
    assert [blob.shape for blob in conv.blobs] == [(2, 3, 1, 1), (1, 1, 1, 2)]
    assert np.array_equal(conv.blobs[0].data.ravel(), weights) and np.array_equal(conv.blobs[1].data.ravel(), bias)
    run(capsys, "upgrade_net_proto_binary", "old.caffemodel", "bvlc.caffemodel", "--dialect", "bvlc")
    first, conv = read_caffemodel("bvlc.caffemodel").layers
    assert (first.type, first.message.input_param.shape[0].dim) == ("Input", [1, 3, 5, 5])
    assert np.array_equal(conv.blobs[1].data.ravel(), bias)


def test_binary_of_today_is_told_and_written(folder, capsys):
    new = handmade.net(handmade.layer("ip", "InnerProduct", (7, handmade.blob(1, 2, 3))))
    (folder / "net.caffemodel").write_bytes(new)
    said = run(capsys, "upgrade_net_proto_binary", "net.caffemodel", "out.caffemodel")
    assert said[0] == "File already in latest proto format: net.caffemodel"
    assert (folder / "out.caffemodel").read_bytes() == new


def test_solver(folder, capsys):
    (folder / "solver.prototxt").write_text("solver_type: ADAM base_lr: 0.5")
    said = run(capsys, "upgrade_solver_proto_text", "solver.prototxt", "out.prototxt")
    assert said == ["Wrote upgraded SolverParameter text proto to out.prototxt"]
    assert text.read("out.prototxt", SolverParameter)[0] == SolverParameter(type="Adam", base_lr=0.5)
    said = run(capsys, "upgrade_solver_proto_text", "out.prototxt", "again.prototxt")
    assert said[0] == "File already in latest proto format: out.prototxt"
    assert (folder / "again.prototxt").read_text() == (folder / "out.prototxt").read_text()


@pytest.mark.parametrize(
    ("command", "content", "said"),
    [
        ("upgrade_net_proto_text", "layers { type: KONV }", "in:1:"),
        ("upgrade_net_proto_binary", "layers { }", "in: "),
        ("upgrade_solver_proto_text", "type: 'Adam' solver_type: ADAM", "in: both `type`"),
    ],
)
def test_what_cannot_be_read_leaves_nothing(folder, capsys, command, content, said):
    (folder / "in").write_text(content)
    assert fail(capsys, command, "in", "out").startswith(said)
    assert not (folder / "out").exists()
