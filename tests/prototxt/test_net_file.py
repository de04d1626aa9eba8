"""Net files: their dialect, their layers' lines, and shipped networks by name."""

import subprocess
import sys

import pytest

from prototxt.caffe_pb2 import NetParameter
from prototxt.errors import CaffeError, FormatError, MissingFileError
from prototxt.net_file import NetFile, find_net, parse_net, read_net, read_solver
from tests.shared import SHARED, needs_shared


@pytest.mark.parametrize(
    ("content", "dialect"),
    [
        ("layer { type: 'ReLU' }", None),
        ("layer { type: 'BN' } layer { type: 'Upsample' } layer { type: 'DenseImageData' }", None),
        ("layer { type: 'Input' }", "bvlc"),
        ("layer { type: 'BatchNorm' } layer { type: 'Scale' }", "bvlc"),
        ("layer { type: 'BatchNorm' } layer { type: 'Upsample' }", "enet"),
        ("layer { type: 'Interp' } layer { type: 'BatchNorm' }", "deeplab"),
        ("layer { type: 'MultiStageMeanfield' } layer { type: 'BN' }", "crf"),
        ("layers { type: UNPOOLING }", "deconvnet"),
        ("layers { type: BN }", "deconvnet"),
    ],
)
def test_text_gives_its_dialect_away(content, dialect):
    file = parse_net(content)
    assert (file.dialect, file.evidence) == (dialect or "segnet", dialect is not None)


def test_dialect_may_be_said():
    assert parse_net("layer { type: 'Input' }", dialect="enet").dialect == "enet"
    with pytest.raises(CaffeError, match=r"unknown dialect 'bvcl'.*did you mean 'bvlc'"):
        parse_net("", dialect="bvcl")


def test_lines_survive_upgrades():
    content = "input: 'data' input_shape { dim: 1 }\nlayers { name: 'a'\n type: RELU }\nlayers {\n name: 'b' }"
    assert parse_net(content).lines == [2, 4]
    assert parse_net(content, dialect="bvlc").lines == [None, 2, 4]


def test_net_in_memory():
    file = NetFile.from_message(NetParameter(layer=[{"type": "Input"}]))
    assert (file.dialect, file.lines) == ("bvlc", [None])


def test_net_in_memory_is_kept_as_it_was():
    message = NetParameter(name="before")
    file = NetFile.from_message(message)
    message.name = "after"
    assert file.message.name == "before"


def test_solver(tmp_path):
    (tmp_path / "solver.prototxt").write_text("base_lr: 0.1 solver_type: ADAM")
    assert read_solver(tmp_path / "solver.prototxt").type == "Adam"
    (tmp_path / "solver.prototxt").write_text("base_lr: 0.1 momentun: 0.9")
    with pytest.raises(FormatError, match=r"solver\.prototxt:1:14: unknown field 'momentun'.*'momentum'"):
        read_solver(tmp_path / "solver.prototxt")


def test_shipped_networks_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "segnet").mkdir()
    assert find_net("segnet") == find_net("segnet.prototxt")
    (tmp_path / "segnet.prototxt").write_text("")
    assert find_net("segnet.prototxt").resolve() == tmp_path / "segnet.prototxt"
    with pytest.raises(MissingFileError, match="did you mean 'segnet_basic'"):
        find_net("segnet_basci.prototxt")
    with pytest.raises(MissingFileError):
        find_net("folder/segnet.prototxt")


def test_reading_needs_no_torch():
    program = (
        "import sys, prototxt.net_file, prototxt.caffemodel, prototxt.weights_h5; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@needs_shared
def test_every_original_net_is_read_and_upgraded():
    nets = [p for p in sorted((SHARED / "prototxt").rglob("*.prototxt")) if "base_lr:" not in p.read_text()]
    assert len(nets) > 50
    for path in nets:
        file = read_net(path)
        assert file.message.layer and not file.message.layers
        assert len(file.lines) == len(file.message.layer)


@needs_shared
def test_all_files_of_the_segnet_tutorial_are_read():
    files = sorted((SHARED / "prototxt" / "segnet-tutorial").rglob("*.prototxt"))
    assert len(files) == 22
    for path in files:
        if "solver" in path.name:
            assert read_solver(path).HasField("base_lr")
        else:
            assert read_net(path).dialect == "segnet"
