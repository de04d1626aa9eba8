"""The command that people type: a prototxt in, a .pt file and a table out."""

import sys

import numpy as np
import pytest
import torch
from PIL import Image

import caffe_compat as caffe
from converters.caffe2torch import convert, main
from converters.pt_file import load_pt, read_pt
from prototxt.errors import CaffeError, FormatError, MissingFileError
from prototxt.net_file import parse_net
from tests.caffe_compat.nets import AUTOENCODER, inputs


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.prototxt").write_text(AUTOENCODER)
    return tmp_path


def save_weights(folder, value):
    net = caffe.Net("tiny.prototxt", caffe.TEST)
    for blobs in net.params.values():
        for blob in blobs:
            blob.data[...] = value
    net.save(folder / "tiny.caffemodel")
    return net


def test_net_comes_back_from_the_pt_file_alone(folder):
    saved = save_weights(folder, 0.25)
    convert("tiny.prototxt", weights="tiny.caffemodel")
    (folder / "tiny.prototxt").unlink()
    net = load_pt("tiny.pt")
    image = torch.rand(1, 3, 10, 14)
    assert torch.equal(net(image)["prob"], saved(image)["prob"])
    assert read_pt("tiny.pt")["trained"] is True


def test_pt_file_is_plain_data(folder):
    convert("tiny.prototxt")
    content = torch.load("tiny.pt", weights_only=True)
    assert content["trained"] is False
    assert set(content["state_dict"]) == set(caffe.Net("tiny.prototxt", caffe.TEST).state_dict())
    assert 'name: "conv1"' in content["prototxt"]


def test_existing_output_needs_force(folder, capsys):
    (folder / "tiny.pt").write_text("precious")
    assert main(["tiny.prototxt"]) == 1
    assert "--force" in capsys.readouterr().err
    assert (folder / "tiny.pt").read_text() == "precious"
    assert main(["tiny.prototxt", "--force"]) == 0
    assert load_pt("tiny.pt").name == ""


def test_shape_of_one_input(folder, capsys):
    assert main(["tiny.prototxt", "--input-shape", "data=2,3,20,28"]) == 0
    assert load_pt("tiny.pt").blobs["prob"].shape == (2, 2, 20, 28)
    with pytest.raises(SystemExit):
        main(["tiny.prototxt", "--input-shape", "2,3"])
    assert "e.g. data=1,3,360,480" in capsys.readouterr().err


def test_output_chooses_the_file(folder):
    convert("tiny.prototxt", "other.pt")
    assert (folder / "other.pt").exists() and not (folder / "tiny.pt").exists()
    with pytest.raises(CaffeError, match="folder nowhere does not exist"):
        convert("tiny.prototxt", "nowhere/x.pt")


def test_table_and_what_matched(folder, capsys):
    save_weights(folder, 1)
    text = AUTOENCODER.replace('name: "score"', 'name: "other"')
    (folder / "tiny.prototxt").write_text(text)
    assert main(["tiny.prototxt", "--weights", "tiny.caffemodel"]) == 0
    out = capsys.readouterr().out
    assert "1×4×10×14" in out and "Convolution" in out and "multiply-adds" in out
    assert "130 parameters" in out  # 4·3·9 + 4, 2·4, 2·4 + 2
    assert "2 of 3 layers matched" in out and "not in the file" in out and "other" in out and "score" in out


def test_without_weights_it_says_untrained(folder, capsys):
    main(["tiny.prototxt"])
    assert "untrained" in capsys.readouterr().out


def test_every_mismatch_is_told_and_nothing_is_written(folder, capsys):
    save_weights(folder, 1)
    text = AUTOENCODER.replace("num_output: 4", "num_output: 5").replace("num_output: 2", "num_output: 3")
    (folder / "tiny.prototxt").write_text(text)
    assert main(["tiny.prototxt", "--weights", "tiny.caffemodel"]) == 1
    error = capsys.readouterr().err
    assert all(name in error for name in ("'conv1'", "'bn1'", "'score'"))
    assert "(4, 3, 3, 3)" in error and "(5, 3, 3, 3)" in error
    assert not (folder / "tiny.pt").exists()


def test_weights_of_another_net_are_no_success(folder, capsys):
    save_weights(folder, 1)
    (folder / "tiny.prototxt").write_text(AUTOENCODER.replace('name: "', 'name: "my_'))
    assert main(["tiny.prototxt", "--weights", "tiny.caffemodel"]) == 1
    assert "weights for conv1, bn1, score" in capsys.readouterr().err
    assert not (folder / "tiny.pt").exists()


def test_phase_and_input_size(folder):
    text = AUTOENCODER + 'layer { name: "t" type: "ReLU" bottom: "score" top: "t" include { phase: TRAIN } }'
    (folder / "tiny.prototxt").write_text(text)
    main(["tiny.prototxt", "--phase", "train", "--input-size", "20x12"])
    net = load_pt("tiny.pt")
    assert "t" in net.blobs and net.training and net.blobs["data"].shape == (1, 3, 20, 12)


def test_check_draws_the_labels(folder, capsys):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (30, 40, 3), np.uint8)).save("street.png")
    assert main(["tiny.prototxt", "--check", "street.png"]) == 0
    out = capsys.readouterr().out
    assert "10×14" in out and "tiny_check.png" in out
    with Image.open("tiny_check.png") as picture:
        assert picture.width > 14


def test_shipped_networks_are_found_by_name(folder, capsys):
    assert main(["segnet_basic.prototxt"]) == 0
    assert "1,416,587 parameters" in capsys.readouterr().out
    assert load_pt("segnet_basic.pt")(torch.zeros(1, 3, 360, 480))["prob"].shape == (1, 11, 360, 480)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing.prototxt"], "nothing.prototxt"),
        (["tiny.prototxt", "--weights", "nothing.caffemodel"], "nothing.caffemodel"),
        (["tiny.prototxt", "--check", "nothing.png"], "nothing.png"),
    ],
)
def test_missing_files_are_one_clear_line(folder, capsys, arguments, said):
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and said in error and "Traceback" not in error


def test_help_explains_itself(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert "--weights" in text and "examples:" in text and "load_pt" in text


def test_other_files_are_no_pt_files(folder):
    torch.save({"a": 1}, "a.pt")
    (folder / "b.pt").write_text("hello")
    with pytest.raises(FormatError, match=r"a\.pt"):
        read_pt("a.pt")
    with pytest.raises(FormatError, match=r"b\.pt"):
        read_pt("b.pt")
    with pytest.raises(MissingFileError):
        read_pt("c.pt")


def test_safetensors(folder):
    safe = pytest.importorskip("safetensors", reason="needs safetensors, the optional extra")
    saved = save_weights(folder, 0.25)
    _, target, _ = convert("tiny.prototxt", weights="tiny.caffemodel", kind="safetensors")
    assert target.name == "tiny.safetensors"
    with safe.safe_open(target, "pt") as file:
        found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    assert found.keys() == saved.state_dict().keys()
    assert all(torch.equal(found[name], value) for name, value in saved.state_dict().items())
    again = caffe.Net(parse_net(metadata["prototxt"], "again"), caffe.TEST, dialect=metadata["dialect"])
    again.load_state_dict(found)
    assert metadata["trained"] == "True"


def test_parameters_that_layers_share_in_safetensors(folder):
    safetensors = pytest.importorskip("safetensors.torch", reason="needs safetensors, the optional extra")
    shared = 'layer {{ name: "{0}" type: "Convolution" bottom: "x" top: "{0}" param {{ name: "w" }} '
    shared += "convolution_param {{ num_output: 2 kernel_size: 1 bias_term: false }} }}\n"
    lines = inputs(x=(1, 2, 3, 3)) + shared.format("a") + shared.format("b")
    (folder / "shared.prototxt").write_text(lines)
    net, target, _ = convert("shared.prototxt", kind="safetensors")
    found = safetensors.load_file(target)
    assert all(torch.equal(found[name], value) for name, value in net.state_dict().items())


def test_npz_and_caffes_hdf5(folder):
    saved = save_weights(folder, 0.25)
    convert("tiny.prototxt", "arrays.npz", weights="tiny.caffemodel")
    with np.load("arrays.npz") as arrays:
        assert all(np.array_equal(arrays[name], value.numpy()) for name, value in saved.state_dict().items())
        assert set(arrays) == set(saved.state_dict())
    _, target, _ = convert("tiny.prototxt", weights="tiny.caffemodel", kind="h5")
    assert target.name == "tiny.caffemodel.h5"
    again = caffe.Net("tiny.prototxt", str(target), caffe.TEST)
    assert all(torch.equal(again.state_dict()[name], value) for name, value in saved.state_dict().items())
    assert main(["tiny.prototxt", "--format", "npz"]) == 0 and (folder / "tiny.npz").exists()


@pytest.mark.parametrize(("output", "kind"), [("a.npz", "pt"), ("a.pt", "h5"), ("a.bin", "h5")])
def test_ending_of_another_format(output, kind, folder, capsys):
    assert main(["tiny.prototxt", "--output", output, "--format", kind]) == 1
    assert f"{output}: to be written as {kind}; expected a name that ends in" in capsys.readouterr().err
    assert not (folder / output).exists()


def test_without_safetensors(folder, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    assert main(["tiny.prototxt", "--format", "safetensors"]) == 1
    assert "pip install" in capsys.readouterr().err and not list(folder.glob("*.safetensors"))


def test_source_beside_the_weights(folder, monkeypatch, capsys):
    saved = save_weights(folder, 0.25)
    assert main(["tiny.prototxt", "--weights", "tiny.caffemodel", "--emit", "tiny_net.py"]) == 0
    assert capsys.readouterr().out.endswith("wrote tiny.pt and tiny_net.py\n")
    monkeypatch.syspath_prepend(folder)
    from tiny_net import load

    image = torch.rand(1, 3, 10, 14)
    with torch.no_grad():
        assert torch.equal(load("tiny.pt")(image), saved(image)["prob"])


def test_source_of_safetensors(folder, monkeypatch):
    pytest.importorskip("safetensors", reason="needs safetensors, the optional extra")
    saved = save_weights(folder, 0.25)
    convert("tiny.prototxt", weights="tiny.caffemodel", kind="safetensors", emit_to="tiny_safe.py")
    monkeypatch.syspath_prepend(folder)
    from tiny_safe import load

    image = torch.rand(1, 3, 10, 14)
    with torch.no_grad():
        assert torch.equal(load("tiny.safetensors")(image), saved(image)["prob"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--emit", "my-net.py"], "a name to import it by"),
        (["--emit", "torch.py"], "a name to import it by"),
        (["--emit", "my_net.txt"], "a name to import it by"),
        (["--emit", "there.py"], "--emit), or --force"),
        (["--emit", "nowhere/net.py"], "folder nowhere does not exist"),
        (["--emit", "net.py", "--format", "npz"], "without --format npz"),
        (["--emit", "net.py", "--torch-layout", "torch.nn:Identity"], "without --torch-layout"),
        (["--emit", "net.py", "--phase", "train"], "--phase test"),
        (["--torch-layout", "torch.nn:Identity"], "has no counterpart"),
        (["--torch-layout", "model.pth", "--format", "h5"], "no state dict is written as h5"),
    ],
)
def test_nothing_is_written_where_it_cannot_be(folder, arguments, said, capsys):
    (folder / "there.py").write_text("precious")
    torch.save(torch.nn.Conv2d(3, 4, 3).state_dict(), folder / "model.pth")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    assert main(["tiny.prototxt", *arguments]) == 1
    assert said in capsys.readouterr().err
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


class TinyByHand(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.encode = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, bias=False), torch.nn.BatchNorm2d(4))
        self.classify = torch.nn.Conv2d(4, 2, 1)


@pytest.mark.parametrize("kind", ["pt", "safetensors", "npz"])
def test_layout_of_another_model(folder, kind, capsys):
    if kind == "safetensors":
        pytest.importorskip("safetensors", reason="needs safetensors, the optional extra")
    save_weights(folder, 0.25)
    (folder / "tiny.prototxt").write_text(AUTOENCODER.replace("bn_param {", "bn_param { bn_mode: INFERENCE"))
    torch.save(TinyByHand().state_dict(), "model.pth")
    arguments = ["tiny.prototxt", "--weights", "tiny.caffemodel", "--torch-layout", "model.pth", "--format", kind]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert "encode.0" in out and "bias in bn1" in out and f"wrote tiny_torch.{kind}" in out
    if kind == "pt":
        model = TinyByHand()
        model.load_state_dict(torch.load("tiny_torch.pt", weights_only=True))
        assert model.encode[1].running_mean.tolist() == [-0.25] * 4
    assert (folder / f"tiny_torch.{kind}").exists()
