"""The command: a prototxt in, an ONNX file out, and whether it computes the same."""

import sys

import numpy as np
import pytest
import torch

import caffe_compat as caffe
from converters.caffe2onnx import main
from converters.caffe2torch import convert
from tests.caffe_compat.nets import AUTOENCODER, inputs

onnx = pytest.importorskip("onnx", reason="needs onnx, the optional extra")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs onnxruntime, the optional extra")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.prototxt").write_text(AUTOENCODER)
    caffe.Net("tiny.prototxt", caffe.TEST).save("tiny.caffemodel")
    return tmp_path


def prob(path, image):
    return onnxruntime.InferenceSession(path).run(["prob"], {"data": image})[0]


def image(*size):
    return np.random.default_rng(0).uniform(0, 255, (1, 3, *size)).astype(np.float32)


def test_file_computes_what_the_net_does(folder, capsys):
    assert main(["tiny.prototxt", "--weights", "tiny.caffemodel", "--verify"]) == 0
    out = capsys.readouterr().out
    assert "3 of 3 layers matched" in out and "input data: N×3×10×14" in out and "output prob: N×2×10×14" in out
    assert "wrote tiny.onnx" in out and "labels the same: 100.0000%" in out
    expected = caffe.Net("tiny.prototxt", "tiny.caffemodel", caffe.TEST).forward(data=image(10, 14))["prob"]
    assert np.allclose(prob("tiny.onnx", image(10, 14)), expected, atol=1e-5)
    said = {entry.key: entry.value for entry in onnx.load("tiny.onnx").metadata_props}
    assert (said["net"], said["weights"]) == ("tiny.prototxt", "tiny.caffemodel")


def test_pt_file_at_another_size(folder, capsys):
    convert("tiny.prototxt", weights="tiny.caffemodel")
    assert main(["tiny.pt", "--input-size", "12x16", "--batch", "2", "--labels", "--output", "other.onnx"]) == 0
    out = capsys.readouterr().out
    assert "input data: 2×3×12×16" in out and "output labels: 2×12×16" in out
    net = caffe.Net("tiny.prototxt", "tiny.caffemodel", caffe.TEST, image_size=(12, 16))
    x = image(12, 16).repeat(2, axis=0)
    assert np.allclose(prob("other.onnx", x), net(torch.from_numpy(x))["prob"].detach(), atol=1e-5)


def test_pt_file_has_its_own_weights(folder, capsys):
    convert("tiny.prototxt", weights="tiny.caffemodel")
    assert main(["tiny.pt", "--weights", "tiny.caffemodel"]) == 1
    assert "--weights beside a .pt file" in capsys.readouterr().err and not list(folder.glob("*.onnx"))


def test_pt_file_of_a_training_net_is_for_inference(folder):
    convert("tiny.prototxt", phase=caffe.TRAIN)
    assert main(["tiny.pt", "--verify"]) == 0


def test_shipped_network_without_its_samples(folder, capsys):
    assert main(["bayesian_segnet_basic", "--without-samples", "--output", "b.onnx"]) == 0
    assert "random" not in capsys.readouterr().out
    assert "RandomUniformLike" not in {node.op_type for node in onnx.load("b.onnx").graph.node}


DROPS = (
    'layer { name: "drop" type: "Dropout" bottom: "conv1" top: "conv1" dropout_param { sample_weights_test: true } }\n'
)


def test_samples_are_told_and_compared_without(folder, capsys):
    text = AUTOENCODER.replace('layer { name: "pool1"', DROPS + 'layer { name: "pool1"')
    (folder / "tiny.prototxt").write_text(text)
    assert main(["tiny.prototxt", "--verify"]) == 0
    out = capsys.readouterr().out
    assert "note: drop draws at random" in out and "compared without Dropout's samples" in out
    session = onnxruntime.InferenceSession("tiny.onnx")
    first, second = (session.run(["prob"], {"data": image(10, 14)})[0] for _ in range(2))
    assert not np.array_equal(first, second)


def test_labels_that_differ_are_a_failure(folder, capsys, monkeypatch):
    from converters.onnx_graph import comparing

    run_model = comparing.run_model
    monkeypatch.setattr(comparing, "run_model", lambda *args: {k: 1 - v for k, v in run_model(*args).items()})
    assert main(["tiny.prototxt", "--verify"]) == 1
    captured = capsys.readouterr()
    assert "error: the labels differ; expected 99.9% of them the same" in captured.err
    assert captured.out.count("prob: largest difference") == 2 and "beside the net in float64" in captured.out


def test_existing_output_needs_force(folder, capsys):
    (folder / "tiny.onnx").write_text("precious")
    assert main(["tiny.prototxt"]) == 1
    assert "--force" in capsys.readouterr().err and (folder / "tiny.onnx").read_text() == "precious"
    assert main(["tiny.prototxt", "--force"]) == 0
    onnx.checker.check_model(onnx.load("tiny.onnx"))


def test_what_cannot_be_said_leaves_no_file(folder, capsys):
    text = inputs(scores=(1, 2, 10, 14), sizes=(1, 1, 1, 2))
    text += 'layer { name: "crf" type: "DenseCRF" bottom: "scores" bottom: "sizes" top: "crf" }'
    (folder / "deeplab.prototxt").write_text(text)
    assert main(["deeplab.prototxt", "--dialect", "deeplab"]) == 1
    error = capsys.readouterr().err
    assert "deeplab.prototxt:" in error and "layer 'crf' (DenseCRF)" in error and "permutohedral" in error
    assert not list(folder.glob("*.onnx")) and not list(folder.glob(".*"))


@pytest.mark.parametrize(("package", "arguments"), [("onnx", []), ("onnxruntime", ["--verify"])])
def test_without_the_packages(package, arguments, folder, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, package, None)
    assert main(["tiny.prototxt", *arguments]) == 1
    assert f"takes the package {package}" in capsys.readouterr().err and not list(folder.glob("*.onnx"))


def test_help_explains_itself(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    out = capsys.readouterr().out
    assert "--verify" in out and "examples:" in out and "InferenceSession" in out
