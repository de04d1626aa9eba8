import h5py
import numpy as np
import pytest
import torch

import caffe_compat as caffe
from prototxt.caffe_pb2 import BNParameter
from prototxt.caffemodel import read_caffemodel
from prototxt.errors import CaffeError, MissingFileError
from segnet.bn_statistics import bn_statistics, main, write_merged
from tests.caffe_compat.nets import inputs, net
from tests.segnet.test_originals import images
from tests.shared import SHARED, needs_shared

COUNT, BATCH = 5, 2  # 5 // 2 + 5 % 2 = 3 batches: the first entry comes twice

DATA = """
layer { name: "data" type: "HDF5Data" top: "data" top: "label" include { phase: TRAIN }
  hdf5_data_param { source: "list.txt" batch_size: 2 } }
layer { name: "data" type: "HDF5Data" top: "data" top: "label" include { phase: TEST }
  hdf5_data_param { source: "nothing.txt" batch_size: 2 } }
"""
FIRST = """
layer { name: "bn1" type: "BN" bottom: "data" top: "data"
  bn_param { scale_filler { value: 2 } shift_filler { value: 1 } } }
"""
REST = """
layer { name: "drop" type: "Dropout" bottom: "data" top: "data" }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 2 kernel_size: 1 weight_filler { type: "gaussian" std: 1 } } }
layer { name: "bn2" type: "BN" bottom: "conv" top: "bn2" top: "mean2" bn_param { scale_filler { value: -3 } } }
layer { name: "silence" type: "Silence" bottom: "mean2" }
layer { name: "score" type: "Convolution" bottom: "bn2" top: "score"
  convolution_param { num_output: 3 kernel_size: 1 weight_filler { type: "gaussian" std: 1 } } }
"""
LOSS = 'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss" }'


@pytest.fixture
def values(tmp_path, monkeypatch):
    """A training net whose labels are no classes, its weights, and its data (5, 3, 4, 6), which is returned."""
    monkeypatch.chdir(tmp_path)
    values = np.random.default_rng(0).normal(5, 3, (COUNT, 3, 4, 6)).astype(np.float32)
    with h5py.File("data.h5", "w") as file:
        file["data"] = values
        file["label"] = np.full((COUNT, 1, 4, 6), 200, np.float32)
    (tmp_path / "list.txt").write_text("data.h5\n")
    (tmp_path / "train.prototxt").write_text(DATA + FIRST + REST + LOSS)
    caffe.set_random_seed(1)
    caffe.Net("train.prototxt", caffe.TRAIN).save("trained.caffemodel")
    return values


def per_channel(batch):
    return batch.astype(np.float64).transpose(1, 0, 2, 3).reshape(batch.shape[1], -1)


def test_default_is_the_mean_over_n_by_b_plus_rest_batches(values):
    found = bn_statistics("train.prototxt", "trained.caffemodel")
    batches = [per_channel(values[[0, 1]]), per_channel(values[[2, 3]]), per_channel(values[[4, 0]])]
    mean = np.mean([batch.mean(1) for batch in batches], 0)
    variance = np.mean([batch.var(1) for batch in batches], 0)
    assert list(found) == ["bn1", "bn2"]
    assert found["bn1"].mean == pytest.approx(mean, rel=1e-6)
    assert found["bn1"].variance == pytest.approx(variance, rel=1e-6)
    scale = 2 / np.sqrt(variance + 1e-9)
    assert found["bn1"].scale == pytest.approx(scale, rel=1e-6)
    assert found["bn1"].shift == pytest.approx(1 - scale * mean, rel=1e-5)


def test_corrected_is_the_variance_of_every_value_once(values):
    found = bn_statistics("train.prototxt", "trained.caffemodel", corrected=True)["bn1"]
    every = per_channel(values)
    assert found.mean == pytest.approx(every.mean(1), rel=1e-6)
    assert found.variance == pytest.approx(every.var(1, ddof=1), rel=1e-6)


def test_later_layers_see_normalised_batches_without_dropout(values):
    found = bn_statistics("train.prototxt", "trained.caffemodel")["bn2"]
    kernel = caffe.Net("train.prototxt", "trained.caffemodel", caffe.TRAIN).params["conv"][0].data[:, :, 0, 0]
    batches = [per_channel(values[one]) for one in ([0, 1], [2, 3], [4, 0])]
    maps = [kernel @ (2 * (b - b.mean(1, keepdims=True)) / b.std(1, keepdims=True) + 1) for b in batches]
    assert found.variance == pytest.approx(np.mean([one.var(1) for one in maps], 0), rel=1e-5)


def test_dropout_that_samples_in_test_stays_on(values, tmp_path):
    text = (tmp_path / "train.prototxt").read_text()
    text = text.replace('top: "data" }', 'top: "data" dropout_param { sample_weights_test: true } }')
    (tmp_path / "sampling.prototxt").write_text(text)
    plain, sampling = (bn_statistics(f"{name}.prototxt", "trained.caffemodel") for name in ("train", "sampling"))
    assert np.array_equal(plain["bn1"].variance, sampling["bn1"].variance)
    assert not np.allclose(plain["bn2"].variance, sampling["bn2"].variance, rtol=1e-3)


def test_inference_net_with_the_weights_normalises_by_the_statistics(values, tmp_path):
    assert main(["train.prototxt", "trained.caffemodel", "merged.caffemodel", "--corrected"]) == 0
    text = inputs(data=(5, 3, 4, 6)) + (FIRST + REST).replace("scale_filler", "bn_mode: INFERENCE scale_filler")
    text = text.replace(' top: "mean2"', "").replace('layer { name: "silence" type: "Silence" bottom: "mean2" }', "")
    (tmp_path / "inference.prototxt").write_text(text)
    inference = caffe.Net("inference.prototxt", "merged.caffemodel", caffe.TEST)
    inference.blobs["data"].data[...] = values
    inference.forward(end="bn1")
    out = per_channel(inference.blobs["data"].data)
    assert out.mean(1) == pytest.approx([1] * 3, abs=1e-5)
    assert out.std(1, ddof=1) == pytest.approx([2] * 3, rel=1e-5)


def test_written_weights_keep_everything_else(values):
    found = bn_statistics("train.prototxt", "trained.caffemodel")
    write_merged(found, "trained.caffemodel", "merged.caffemodel")
    before, after = (read_caffemodel(f"{name}.caffemodel") for name in ("trained", "merged"))
    assert after.dialect == before.dialect and [x.name for x in after.layers] == [x.name for x in before.layers]
    for old, new in zip(before.layers, after.layers, strict=True):
        if new.type == "BN":
            assert new.message.bn_param.bn_mode == BNParameter.INFERENCE and len(new.message.top) == 1
            assert np.array_equal(new.blobs[0].data.ravel(), found[new.name].scale)
            assert np.array_equal(new.blobs[1].data.ravel(), found[new.name].shift)
        else:
            assert new.message == old.message
            assert all(np.array_equal(a.data, b.data) for a, b in zip(old.blobs, new.blobs, strict=True))


def test_hdf5_weights(values):
    caffe.Net("train.prototxt", "trained.caffemodel", caffe.TRAIN).save("trained.caffemodel.h5")
    assert main(["train.prototxt", "trained.caffemodel.h5", "merged.caffemodel.h5"]) == 0
    found = bn_statistics("train.prototxt", "trained.caffemodel")
    with h5py.File("merged.caffemodel.h5") as file:
        assert np.array_equal(file["data/bn2/1"][()].ravel(), found["bn2"].shift)
    with pytest.raises(CaffeError, match="is HDF5; expected the same ending"):
        write_merged(found, "trained.caffemodel.h5", "merged.caffemodel")


def test_a_net_is_left_as_it_was(values):
    training = caffe.Net("train.prototxt", "trained.caffemodel", caffe.TRAIN)
    training.forward(end="data")
    assert bn_statistics(training)["bn1"].mean == pytest.approx(
        bn_statistics("train.prototxt", "trained.caffemodel")["bn1"].mean
    )
    assert training.training and training.keeps_graph
    training.forward(end="data")
    assert np.array_equal(training.blobs["data"].data, values[2:4])


def test_shuffled_data_can_be_read_in_order(values, tmp_path):
    text = (tmp_path / "train.prototxt").read_text().replace("batch_size: 2", "batch_size: 2 shuffle: true")
    (tmp_path / "shuffled.prototxt").write_text(text)
    plain = bn_statistics("train.prototxt", "trained.caffemodel")["bn1"]
    shuffled = caffe.Net("shuffled.prototxt", "trained.caffemodel", caffe.TRAIN)
    assert np.array_equal(bn_statistics(shuffled, in_order=True)["bn1"].mean, plain.mean)
    orders = [bn_statistics("shuffled.prototxt", "trained.caffemodel")["bn1"].mean for _ in range(9)]
    assert any(not np.array_equal(mean, plain.mean) for mean in orders)


def test_data_without_a_number_of_entries_needs_iterations():
    shape = "shape { dim: 2 dim: 3 dim: 4 dim: 4 }"
    made = f'layer {{ name: "data" type: "DummyData" top: "data" dummy_data_param {{ {shape} }} }}'
    dummy = net(made + FIRST, caffe.TRAIN)
    with pytest.raises(caffe.NetError, match=r"comes from .*\(DummyData\).*--iterations"):
        bn_statistics(dummy)
    assert bn_statistics(dummy, iterations=2)["bn1"].variance.tolist() == [0] * 3
    with pytest.raises(caffe.NetError, match="0 batches to run; expected at least 1"):
        bn_statistics(dummy, iterations=0)


def test_nets_without_a_learning_bn():
    def error(layer):
        with pytest.raises(caffe.NetError) as caught:
            bn_statistics(net(inputs(data=(2, 3, 4, 4)) + layer, caffe.TRAIN))
        return str(caught.value)

    assert "not needed" in error('layer { name: "b" type: "BatchNorm" bottom: "data" top: "b" }')
    affine = 'layer { name: "b" type: "BN" bottom: "data" top: "b" bn_param { bn_mode: INFERENCE } }'
    assert "expected the training prototxt, where they learn" in error(affine)
    assert error('layer { name: "r" type: "ReLU" bottom: "data" top: "r" }').startswith("no BN layer; expected")


def test_shared_parameters_cannot_take_the_statistics_of_each():
    shared = FIRST.replace("bn_param", 'param { name: "g" } param { name: "s" } bn_param')
    with pytest.raises(caffe.NetError, match=r"'bn1'.*shares its parameters.*\n.*'bn2'"):
        bn_statistics(net(inputs(data=(2, 3, 4, 4)) + shared + shared.replace("bn1", "bn2"), caffe.TRAIN), iterations=1)


def test_weights_that_do_not_fit_the_step(values, tmp_path, capsys):
    arguments = ["train.prototxt", "trained.caffemodel", "merged.caffemodel"]
    assert main(arguments) == 0
    assert "2 BN layers" in capsys.readouterr().out
    assert main(arguments) == 1
    assert "exists already; expected a new name, or --force" in capsys.readouterr().err
    assert main([*arguments, "--force"]) == 0
    with pytest.raises(caffe.NetError, match="'bn1' has `bn_mode: INFERENCE`: its statistics are merged in already"):
        bn_statistics("train.prototxt", "merged.caffemodel")
    text = (tmp_path / "train.prototxt").read_text()
    (tmp_path / "other.prototxt").write_text(text.replace('"conv" type', '"conv9" type'))
    with pytest.raises(caffe.NetError, match=r"'conv9' \(Convolution\): not in trained\.caffemodel"):
        bn_statistics("other.prototxt", "trained.caffemodel")
    (tmp_path / "fine.prototxt").write_text(text.replace('"score" type', '"score9" type'))
    assert len(bn_statistics("fine.prototxt", "trained.caffemodel")) == 2, "what comes after the last BN plays no part"


def test_missing_data(values, tmp_path):
    (tmp_path / "data.h5").unlink()
    with pytest.raises(MissingFileError, match=r"data\.h5"):
        bn_statistics("train.prototxt", "trained.caffemodel")


@needs_shared
@pytest.mark.slow
def test_statistics_are_those_that_caffe_recorded(monkeypatch, tmp_path):
    folder = SHARED / "models" / "segnet_basic_96x128"
    monkeypatch.setenv("CAFFE_ROOT_MAP", f"/SegNet/CamVid={SHARED / 'camvid'}")
    weights = folder / "segnet_basic_96x128_iter_500.caffemodel"
    found = bn_statistics(folder / "train.prototxt", weights, in_order=True)
    recorded = np.load(folder / "bn_statistics.npz")
    assert len(found) == 8
    for name, statistics in found.items():
        for kind, ours in zip(("mean", "var", "scale", "shift"), statistics, strict=True):
            theirs = recorded[f"{kind}:{name}"]
            assert np.abs(ours - theirs).max() <= 1e-4 * np.abs(theirs).max(), (name, kind)
    write_merged(found, weights, tmp_path / "merged.caffemodel")
    net = caffe.Net(folder / "inference.prototxt", tmp_path / "merged.caffemodel", caffe.TEST)
    predictions = np.load(folder / "predictions_val.npz")["predictions"]
    data, _ = images(len(predictions))
    with torch.no_grad():
        ours = net(torch.from_numpy(data))["prob"].argmax(1).numpy()
    assert (ours == predictions).mean() >= 0.999
