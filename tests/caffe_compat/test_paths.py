import logging
import os
import pickle
from pathlib import Path

import pytest

from caffe_compat.paths import ROOT_MAP, Paths, parse_root
from prototxt.errors import CaffeError, MissingFileError


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    """A current folder of its own, and no mapping from outside."""
    monkeypatch.delenv(ROOT_MAP, raising=False)
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)


def make(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")
    return path


# Every rule, from the first to the last: the file each one finds for /SegNet/CamVid/train.txt.
ABSOLUTE = {
    "root": "root/CamVid/train.txt",
    "environment": "env/CamVid/train.txt",
    "list, all but /": "list/SegNet/CamVid/train.txt",
    "prototxt, all but /": "proto/SegNet/CamVid/train.txt",
    "current, all but /": "here/SegNet/CamVid/train.txt",
    "list, one folder": "list/CamVid/train.txt",
    "prototxt, one folder": "proto/CamVid/train.txt",
    "current, one folder": "here/CamVid/train.txt",
    "list, name": "list/train.txt",
    "prototxt, name": "proto/train.txt",
    "current, name": "here/train.txt",
}
RELATIVE = {
    "as it is": "here/data/train.txt",
    "root": "root/train.txt",
    "environment": "env/train.txt",
    "prototxt": "proto/data/train.txt",
    "list": "list/data/train.txt",
    "list, name": "list/train.txt",
    "prototxt, name": "proto/train.txt",
    "current, name": "here/train.txt",
}


@pytest.mark.parametrize(
    ("old", "name", "rules"),
    [("/SegNet", "/SegNet/CamVid/train.txt", ABSOLUTE), ("data", "data/train.txt", RELATIVE)],
    ids=["absolute", "relative"],
)
def test_rules_in_order(tmp_path, monkeypatch, old, name, rules):
    monkeypatch.setenv(ROOT_MAP, f"{old}={tmp_path}/env")
    paths = Paths(tmp_path / "proto/net.prototxt", {old: f"{tmp_path}/root"})
    for place in rules.values():
        make(tmp_path / place)
    for place in rules.values():
        found = paths.resolve(name, tmp_path / "list/list.txt")
        assert found.absolute() == tmp_path / place
        found.unlink()
    with pytest.raises(MissingFileError):
        paths.resolve(name, tmp_path / "list/list.txt")


def test_existing_absolute_path_goes_first(tmp_path):
    file = make(tmp_path / "a/b.txt")
    make(tmp_path / "mapped/b.txt")
    assert Paths(roots={f"{tmp_path}/a": f"{tmp_path}/mapped"}).resolve(file) == file


def test_longest_prefix_of_whole_folder_names(tmp_path, monkeypatch):
    roots = [("/S", "short"), ("/S/CamVid", "long"), ("/S/Cam", "part")]
    for place in ("short/CamVid/x", "long/x", "part/Vid/x"):
        make(Path(place))
    assert Paths(roots=roots).resolve("/S/CamVid/x") == Path("long/x")
    monkeypatch.setenv(ROOT_MAP, os.pathsep.join("=".join(root) for root in roots))
    assert Paths().resolve("/S/CamVid/x") == Path("long/x")


def test_single_file_and_folder_can_be_mapped(tmp_path):
    make(tmp_path / "db/data.mdb")
    paths = Paths(roots={"/old/train_lmdb": f"{tmp_path}/db", "/old/x.txt": f"{tmp_path}/db/data.mdb"})
    assert paths.resolve("/old/train_lmdb") == tmp_path / "db"
    assert paths.resolve("/old/x.txt") == tmp_path / "db/data.mdb"


def test_environment_is_read_when_resolving(tmp_path, monkeypatch):
    paths = Paths()
    make(tmp_path / "data/x/y.png")
    with pytest.raises(MissingFileError):
        paths.resolve("/nowhere/x/y.png")
    monkeypatch.setenv(ROOT_MAP, f"/nowhere={tmp_path}/data")
    assert paths.resolve("/nowhere/x/y.png") == tmp_path / "data/x/y.png"


@pytest.mark.parametrize("value", ["/SegNet", "=/data", "/SegNet="])
def test_malformed_mapping(monkeypatch, value):
    with pytest.raises(CaffeError, match="expected OLD=NEW"):
        parse_root(value)
    monkeypatch.setenv(ROOT_MAP, value)
    with pytest.raises(CaffeError, match=ROOT_MAP):
        Paths().resolve("/SegNet/x")


def test_one_entry_that_lies_elsewhere(tmp_path):
    for number in range(5):
        make(tmp_path / f"data/train/{number}.png")
    make(Path("train/5.png"))
    paths = Paths(roots={"/SegNet": f"{tmp_path}/data"})
    found = [paths.resolve(f"/SegNet/train/{number}.png") for number in range(6)]
    assert found == [tmp_path / f"data/train/{number}.png" for number in range(5)] + [Path("train/5.png")]


def test_folder_that_appears_later(tmp_path):
    paths = Paths(tmp_path / "net.prototxt")
    with pytest.raises(MissingFileError):
        paths.resolve("late/x.txt")
    assert paths.resolve(make(tmp_path / "late/x.txt").relative_to(tmp_path)) == tmp_path / "late/x.txt"


def test_log_once_for_each_folder(tmp_path, caplog):
    caplog.set_level(logging.INFO, "caffe_compat")
    names = [f"{folder}/{number}.png" for folder in ("train", "trainannot") for number in range(4)]
    for name in names:
        make(tmp_path / name)
    paths = Paths(roots={"/SegNet": str(tmp_path)})
    for name in names:
        paths.resolve(f"/SegNet/{name}")
    assert len(caplog.records) == 2
    assert "/SegNet/train/0.png" in caplog.text
    assert f"{tmp_path}/train/0.png (--root)" in caplog.text


def test_nothing_is_logged_for_a_file_in_its_place(caplog):
    caplog.set_level(logging.INFO, "caffe_compat")
    Paths().resolve(make(Path("x.txt")))
    assert not caplog.records


def test_error_names_every_place_and_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setenv(ROOT_MAP, "/SegNet=/env")
    with pytest.raises(MissingFileError) as error:
        Paths(tmp_path / "net.prototxt", {"/SegNet": "/root"}).resolve("/SegNet/CamVid/train.txt", "/lists/a.txt")
    for place in ("/SegNet/CamVid/train.txt", "/root/CamVid/train.txt", "/env/CamVid/train.txt"):
        assert f"    {place}\n" in str(error.value)
    for tail in ("SegNet/CamVid/train.txt", "CamVid/train.txt", "train.txt"):
        for place in (f"/lists/{tail}", f"{tmp_path}/{tail}", tail):
            assert f"    {place}\n" in str(error.value)
    assert "--root /SegNet=FOLDER" in str(error.value)
    assert f"{ROOT_MAP}=/SegNet=FOLDER" in str(error.value)


def test_output_is_mapped_and_its_folder_created(tmp_path, monkeypatch):
    monkeypatch.setenv(ROOT_MAP, f"/SegNet={tmp_path}/env")
    assert Paths().resolve_output("/SegNet/Models/net") == f"{tmp_path}/env/Models/net"
    assert (tmp_path / "env/Models").is_dir()
    paths = Paths(roots={"/SegNet": f"{tmp_path}/root"})
    assert paths.resolve_output("/SegNet/Models/") == f"{tmp_path}/root/Models/"
    assert (tmp_path / "root/Models").is_dir()
    assert Paths().resolve_output("out/net") == "out/net"
    assert Path("out").is_dir()
    assert Paths().resolve_output("net") == "net"


def test_output_folder_that_cannot_be_made(tmp_path):
    make(tmp_path / "file")
    with pytest.raises(CaffeError, match=r"cannot be created.*--root"):
        Paths().resolve_output(f"{tmp_path}/file/snapshots/net")


def test_pickle(tmp_path):
    file = make(tmp_path / "data/x")
    assert pickle.loads(pickle.dumps(Paths(roots={"/S": f"{tmp_path}/data"}))).resolve("/S/x") == file
