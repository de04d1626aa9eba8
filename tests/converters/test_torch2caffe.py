"""From a .pt file back to Caffe's own files."""

import numpy as np
import pytest
import torch

import caffe_compat as caffe
from converters.caffe2torch import convert
from converters.pt_file import load_pt
from converters.torch2caffe import main, to_caffe
from prototxt.errors import CaffeError
from prototxt.net_file import parse_net, read_net
from tests.caffe_compat.nets import AUTOENCODER


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.prototxt").write_text(AUTOENCODER)
    caffe.Net("tiny.prototxt", caffe.TEST).save("tiny.caffemodel")
    convert("tiny.prototxt", weights="tiny.caffemodel")
    return tmp_path


def weights(prototxt, caffemodel):
    net = caffe.Net(prototxt, caffemodel, caffe.TEST)
    return {name: [blob.data.copy() for blob in blobs] for name, blobs in net.params.items()}


def test_there_and_back_is_the_identity(folder, capsys):
    assert main(["tiny.pt", "--output", "back"]) == 0
    assert capsys.readouterr().out == "wrote back.prototxt\nwrote back.caffemodel\n"
    assert read_net("back.prototxt").message == read_net("tiny.prototxt").message
    before, after = weights("tiny.prototxt", "tiny.caffemodel"), weights("back.prototxt", "back.caffemodel")
    assert before.keys() == after.keys()
    for name, blobs in before.items():
        assert all(np.array_equal(*pair) for pair in zip(blobs, after[name], strict=True))


def test_weights_trained_further_in_torch(folder):
    net = load_pt("tiny.pt")
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(1)
    to_caffe(net, "more")
    before, after = weights("tiny.prototxt", "tiny.caffemodel"), weights("more.prototxt", "more.caffemodel")
    assert np.array_equal(after["score"][0], before["score"][0] + 1)


def test_another_dialect_is_translated_to(folder):
    to_caffe(load_pt("tiny.pt"), "plain", "bvlc")
    assert "BN" not in {layer.type for layer in read_net("plain.prototxt").message.layer}
    image = np.random.default_rng(0).normal(size=(1, 3, 10, 14))
    plain = caffe.Net("plain.prototxt", "plain.caffemodel", caffe.TEST, dialect="bvlc")
    tiny = caffe.Net("tiny.prototxt", "tiny.caffemodel", caffe.TEST)
    assert np.allclose(plain.forward(data=image)["prob"], tiny.forward(data=image)["prob"], atol=1e-5)


def test_what_a_dialect_cannot_say_leaves_no_file(folder, capsys):
    assert main(["tiny.pt", "--output", "d", "--dialect", "deeplab"]) == 1
    assert "deeplab" in capsys.readouterr().err
    assert not list(folder.glob("d.*")) and not list(folder.glob("*.part"))
    with pytest.raises(CaffeError, match=r"tiny.prototxt: exists already.*\n?.*tiny.caffemodel: exists already"):
        to_caffe(load_pt("tiny.pt"), "tiny")


def test_net_without_a_file(tmp_path):
    net = caffe.Net(parse_net(AUTOENCODER, "net.prototxt"), caffe.TEST)
    written = to_caffe(net, tmp_path / "net")
    assert [path.name for path in written] == ["net.prototxt", "net.caffemodel"]
