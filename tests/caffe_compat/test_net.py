"""Net: the pycaffe face and the torch face of one object."""

import numpy as np
import pytest
import torch

import caffe_compat as caffe
from caffe_compat.errors import NetError
from tests.caffe_compat.nets import AUTOENCODER, inputs, net

LABELLED = (
    AUTOENCODER.replace("input: ", 'input: "label" input_shape { dim: 1 dim: 1 dim: 10 dim: 14 } input: ', 1)
    + """
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss"
  loss_param { ignore_label: 11 } }"""
)


@pytest.fixture
def image():
    return np.random.default_rng(0).normal(size=(1, 3, 10, 14)).astype(np.float32)


def test_forward_takes_arrays_by_name_and_gives_the_outputs(image):
    built = net(AUTOENCODER)
    assert built.inputs == ["data"] and built.outputs == ["prob"]
    prob = built.forward(data=image)["prob"]
    assert prob.shape == (1, 2, 10, 14) and np.allclose(prob.sum(axis=1), 1)
    assert built.forward(["pool1"], data=image)["pool1"].shape == (1, 4, 5, 7)


def test_start_and_end_run_a_part(image):
    built = net(AUTOENCODER)
    whole = built.forward(data=image)["prob"].copy()
    part = built.forward(data=image, end="pool1")
    assert set(part) == {"pool1", "mask1"}
    assert np.array_equal(built.forward(start="up1")["prob"], whole)


def test_what_is_assigned_into_a_blob_changes_the_net(image):
    built = net(AUTOENCODER)
    built.forward(data=image)
    built.blobs["pool1"].data[...] = 0
    built.params["score"][1].data[...] = (1, 3)
    assert np.allclose(built.forward(start="up1")["prob"][:, 1], 1 / (1 + np.exp(-2)))


def test_arrays_taken_once_show_every_later_pass(image):
    built = net(AUTOENCODER)
    prob = built.forward(data=image)["prob"]
    before = prob.copy()
    built.forward(data=2 * image + 1)
    assert not np.array_equal(prob, before)
    assert prob is built.blobs["prob"].data


def test_backward_gives_the_gradient_of_the_loss_by_the_parameters(image):
    built = net(LABELLED, caffe.TRAIN)
    label = (np.arange(140) % 2).reshape(1, 1, 10, 14)
    for _ in range(2):  # gradients add up until they are cleared
        built.forward(data=image, label=label)
        built.backward()
    twice = built.params["conv1"][0].diff.copy()
    built.clear_param_diffs()
    built.forward(data=image, label=label)
    built.backward()
    assert np.allclose(2 * built.params["conv1"][0].diff, twice, rtol=1e-4, atol=1e-7)
    weight = built.params["score"][0]
    step = np.zeros_like(weight.data)
    step.ravel()[0] = 1e-2
    losses = []
    for sign in (1, -2):
        weight.data[...] += sign * step
        losses.append(float(built.forward(data=image, label=label)["loss"]))
    assert np.isclose((losses[0] - losses[1]) / 2e-2, weight.diff.ravel()[0], rtol=2e-2)


def test_backward_takes_diffs_of_the_outputs(image):
    built = net("force_backward: true " + AUTOENCODER.replace("Softmax", "ReLU"))
    built.forward(data=image)
    found = built.backward(prob=np.ones((1, 2, 10, 14)))
    assert set(found) == {"data"} and np.abs(found["data"]).max() > 0


def test_both_faces_compute_the_same(image):
    built = net(AUTOENCODER)
    arrays = built.forward(data=image)["prob"].copy()
    with torch.no_grad():
        assert np.array_equal(built(torch.from_numpy(image))["prob"].numpy(), arrays)
        assert np.array_equal(built(data=torch.from_numpy(image))["prob"].numpy(), arrays)
    assert np.allclose(built(torch.from_numpy(image))["prob"].detach().numpy(), arrays, atol=1e-6)


def test_torch_face_is_differentiable_and_leaves_the_callers_tensor(image):
    built = net(AUTOENCODER)
    x = torch.from_numpy(image.copy()).requires_grad_()
    built(data=x)["prob"][:, 0].sum().backward()
    assert x.grad.abs().max() > 0
    with torch.no_grad():
        built(data=x)
    assert np.array_equal(x.detach().numpy(), image)


def test_in_place_layer_on_the_input_leaves_the_callers_tensor():
    built = net(inputs(data=(1, 1, 1, 2)) + 'layer { name: "r" type: "ReLU" bottom: "data" top: "data" }')
    x = torch.tensor([[[[-1.0, 1.0]]]])
    with torch.no_grad():
        assert built(data=x)["data"].min() == 0
    assert x.min() == -1


def test_state_dict_has_the_layers_names():
    assert set(net(AUTOENCODER).state_dict()) == {
        "layer.conv1.weight", "layer.conv1.bias", "layer.bn1.scale", "layer.bn1.shift",
        "layer.score.weight", "layer.score.bias",
    }  # fmt: skip


def test_names_that_torch_forbids_and_names_that_occur_twice():
    text = inputs(data=(1, 1, 2, 2)) + "".join(
        f'layer {{ name: "{name}" type: "Convolution" bottom: "data" top: "t{i}" '
        "convolution_param { num_output: 1 kernel_size: 1 } }\n"
        for i, name in enumerate(["a.b", "keys", "twice", "twice", "loss3/x"])
    )
    built = net(text)
    assert set(built.params) == {"a.b", "keys", "twice", "loss3/x"}
    keys = {key.removesuffix(".weight") for key in built.state_dict() if key.endswith("weight")}
    assert keys == {"layer.a%2Eb", "layer.keys%", "layer.twice", "layer.twice#2", "layer.loss3/x"}


def test_reshape_follows_downstream(image):
    built = net(AUTOENCODER)
    built.blobs["data"].reshape(2, 3, 20, 6)
    built.reshape()
    assert built.blobs["prob"].shape == (2, 2, 20, 6)
    assert built(torch.zeros(1, 3, 4, 8))["prob"].shape == (1, 2, 4, 8)


def test_reshape_names_the_fixed_size_that_does_not_fit():
    built = net(AUTOENCODER.replace("scale: 2", "upsample_h: 10 upsample_w: 14"))
    built.blobs["data"].reshape(1, 3, 20, 14)
    with pytest.raises(NetError, match=r"layer 'up1' .*20x14.*10x14.*`upsample_h: 20 upsample_w: 14`"):
        built.reshape()


def test_blob_accessors():
    blob = net(AUTOENCODER).blobs["data"]
    assert (blob.num, blob.channels, blob.height, blob.width, blob.count) == (1, 3, 10, 14, 420)
    assert blob.data.dtype == np.float32 and blob.shape == (1, 3, 10, 14)


def test_layers_and_their_dict():
    built = net(AUTOENCODER)
    assert [layer.type for layer in built.layers][:3] == ["Convolution", "BN", "ReLU"]
    assert built.layer_dict["conv1"].blobs[0].data.shape == (4, 3, 3, 3)


@pytest.mark.parametrize(
    ("given", "said"),
    [({"dat": 1}, "expected exactly data"), ({"data": np.zeros((2, 3, 10, 14))}, "reshape"),
     ({"data": np.zeros((1, 3, 9, 14))}, r"expected \(1, 3, 10, 14\)")],
)  # fmt: skip
def test_wrong_inputs(given, said):
    with pytest.raises(NetError, match=said):
        net(AUTOENCODER).forward(**given)


def test_labels_outside_the_classes_name_value_and_count(image):
    built = net(LABELLED, caffe.TRAIN)
    label = np.zeros((1, 1, 10, 14))
    label[0, 0, 0, :5] = 7
    label[0, 0, 1, :3] = 11  # ignored
    with pytest.raises(NetError, match=r"layer 'loss'.*7 \(5"):
        built.forward(data=image, label=label)


def test_accuracy_counts_void_as_wrong_and_in_no_class():
    text = (
        inputs(score=(1, 2, 1, 4), label=(1, 1, 1, 4))
        + """
layer { name: "acc" type: "Accuracy" bottom: "score" bottom: "label" top: "acc" top: "per" }"""
    )
    score = np.array([[[[1, 0, 1, 0]], [[0, 1, 0, 1]]]])
    out = net(text).forward(score=score, label=np.array([0, 1, 2, 2]).reshape(1, 1, 1, 4))
    assert out["acc"] == 0.5 and out["per"].ravel().tolist() == [1, 1]


def test_mask_outside_the_plane_is_an_error():
    text = (
        inputs(x=(1, 1, 1, 2), mask=(1, 1, 1, 2))
        + """
layer { name: "up" type: "Upsample" bottom: "x" bottom: "mask" top: "y" upsample_param { scale: 2 } }"""
    )
    with pytest.raises(NetError, match=r"layer 'up'.*positions from 0 to 8; expected 0 to 7.*2x4"):
        net(text).forward(x=np.ones((1, 1, 1, 2)), mask=np.array([[[[0, 8]]]]))


def test_dropout_samples_in_test_only_when_asked():
    text = (
        inputs(data=(1, 1, 30, 30))
        + """
layer { name: "drop" type: "Dropout" bottom: "data" top: "y" dropout_param { dropout_ratio: 0.5 } }"""
    )
    ones = np.ones((1, 1, 30, 30))
    assert (net(text).forward(data=ones)["y"] == 1).all()
    sampled = net(text.replace("0.5", "0.5 sample_weights_test: true")).forward(data=ones)["y"]
    assert set(np.unique(sampled)) == {0, 2}


def test_phase_of_a_layer_stays():
    text = (
        inputs(data=(1, 1, 9, 9))
        + """
layer { name: "drop" type: "Dropout" phase: TRAIN bottom: "data" top: "y" }"""
    )
    assert (net(text).forward(data=np.ones((1, 1, 9, 9)))["y"] == 0).any()


def test_forward_all_takes_any_number_of_items():
    built = net(AUTOENCODER.replace("dim: 1 dim: 3", "dim: 2 dim: 3"))
    images = np.random.default_rng(0).normal(size=(5, 3, 10, 14)).astype(np.float32)
    images[4] = images[0]
    out = built.forward_all(["pool1"], data=images)
    assert out["prob"].shape == (5, 2, 10, 14) and out["pool1"].shape == (5, 4, 5, 7)
    assert np.array_equal(out["prob"][:2], built.forward(data=images[:2])["prob"])


def test_forward_backward_all():
    built = net(
        "force_backward: true "
        + inputs(data=(2, 1, 1, 1))
        + """
layer { name: "r" type: "ReLU" bottom: "data" top: "y" relu_param { negative_slope: 0.5 } }"""
    )
    data = np.array([1.0, -1, 2]).reshape(3, 1, 1, 1)
    out, diffs = built.forward_backward_all(data=data, y=np.array([1.0, 2, 3]).reshape(3, 1, 1, 1))
    assert out["y"].ravel().tolist() == [1, -0.5, 2] and diffs["data"].ravel().tolist() == [1, 1, 3]
    with pytest.raises(NetError, match="equally many"):
        built.forward_all()


def test_input_layer_without_its_tensor():
    text = """
layer { name: "i" type: "Input" top: "x" top: "z" input_param { shape { dim: 1 } } }
layer { name: "j" type: "Input" top: "w" input_param { shape { dim: 1 } } }
layer { name: "e" type: "Eltwise" bottom: "x" bottom: "z" bottom: "w" top: "y" }"""
    with pytest.raises(NetError, match=r"layer 'e'.*needs 'w', which was not given"):
        net(text)(x=torch.ones(1), z=torch.ones(1))


def test_missing_prototxt_is_a_runtime_error():
    with pytest.raises(RuntimeError, match=r"nowhere\.prototxt"):
        caffe.Net("nowhere.prototxt", caffe.TEST)
