"""Pictures of another range than the training's are told, everything that is not clear is left alone."""

import functools
import re

import numpy as np
import pytest

import caffe_compat as caffe
from converters.__main__ import main
from converters.diagnosis import examine
from prototxt.caffe_pb2 import TEST, TRAIN
from prototxt.net_file import parse_net, read_net
from tests.caffe_compat.databases import datum, write_lmdb
from tests.caffe_compat.nets import inputs
from tests.converters.test_class_count import layer
from tests.shared import SHARED, needs_shared

SIZE = (48, 64)
FED = inputs(x=(4, 3, *SIZE))
TRAINED = SHARED / "models" / "segnet_basic_96x128"
UNIT = "scale: 0.00392157"


@functools.cache
def pictures(channels=3):
    """Boxes of one colour over each other, (4, C, H, W) at 0 to 255: edges and areas as scenes have them."""
    rng = np.random.default_rng(3)
    result = np.full((4, channels, *SIZE), 128.0)
    for picture in result:
        for _ in range(60):
            top, left = (rng.integers(-8, side) for side in SIZE)
            height, width = rng.integers(4, 24, 2)
            colour = np.clip(rng.uniform(0, 255) + rng.normal(0, 15, (channels, 1, 1)), 0, 255)
            picture[:, max(top, 0) : top + height, max(left, 0) : left + width] = colour
    return result.astype(np.float32)


def source(transform="", top="x", size=SIZE):
    param = f'source: "none.txt" batch_size: 1 new_height: {size[0]} new_width: {size[1]}'
    return (
        f'layer {{ name: "data" type: "DenseImageData" top: "{top}" top: "label" '
        f"dense_image_data_param {{ {param} }} transform_param {{ {transform} }} }}\n"
    )


def convolution(name, bottom, outputs=8, size=5):
    param = f'num_output: {outputs} kernel_size: {size} pad: {size // 2} weight_filler {{ type: "msra" }}'
    return layer(name, "Convolution", [bottom], name, f"convolution_param {{ {param} }}")


LRN = layer("lrn", "LRN", ["x"], "x", "lrn_param { local_size: 5 alpha: 0.0001 beta: 0.75 }")
BATCH_NORM = (
    convolution("conv", "x") + layer("norm", "BatchNorm", ["conv"], "conv") + layer("s", "Scale", ["conv"], "y")
)


def merged(mode="INFERENCE"):
    """Three convolutions, each with SegNet's BN."""
    norm = f"bn_param {{ bn_mode: {mode} }}"
    return "".join(
        convolution(f"c{i}", f"n{i - 1}" if i else "x") + layer(f"n{i}", "BN", [f"c{i}"], f"n{i}", norm)
        for i in range(3)
    )


def save_gathered(path, body, scale, mean=0.0, fed=FED, data=None, kernels=None):
    """Weights of a net with BatchNorm, with the statistics of one pass over transformed pictures."""
    caffe.set_random_seed(5)
    net = caffe.Net(parse_net(fed + body, "net.prototxt"), TRAIN)
    if kernels is not None:
        net.params["conv"][0].data[...] = kernels
    net.forward(x=((pictures() if data is None else data) - mean) * np.float32(scale))
    net.save(str(path))
    return path


def save_merged(path, scale, prefix="", gamma=(0.5, 1.5), spread=1.0):
    """Weights of ``merged``, with the deviations of a pass over scaled pictures in its scales, as SegNet's tools do."""
    caffe.set_random_seed(5)
    net = caffe.Net(parse_net(FED + prefix + merged("LEARN"), "net.prototxt"), TEST)
    rng = np.random.default_rng(0)
    for i in range(3):
        net.params[f"n{i}"][0].data[...] = rng.uniform(*gamma, (1, 8, 1, 1))
    net.forward(x=pictures() * np.float32(scale))
    for i in range(3):
        deviation = net.blobs[f"c{i}"].data.std(axis=(0, 2, 3)).reshape(1, 8, 1, 1)
        net.params[f"n{i}"][0].data[...] /= np.where(spread, deviation, 1)
    net.save(str(path))
    return path


def look(text, weights):
    return examine(parse_net(text, "net.prototxt"), weights)


RANGES = [
    ("", UNIT, "smaller"),
    ("mean_value: 127.5", "mean_value: 127.5 scale: 0.0078125", "smaller"),
    ("mean_value: 104 mean_value: 117 mean_value: 123", "scale: 0.0078125 mean_value: 127.5", "smaller"),
    ('mean_file: "mean.binaryproto"', UNIT, "smaller"),
    (UNIT, "", "larger"),
    ("mean_value: 127.5 scale: 0.0078125", "mean_value: 110", "larger"),
    ("", "", None),
    ("", "mean_value: 110", None),
    (UNIT, UNIT, None),
    (UNIT, "mean_value: 127.5 scale: 0.0078125", None),
    ("scale: 0.017", UNIT, None),  # 4 times, which the kind of images may do
    ("scale: 0", "", None),
]


def values(transform):
    """Scale and mean of a transform, as numbers."""
    scale = re.search(r"scale: (\S+)", transform)
    return float(scale[1]) if scale else 1.0, 110.0 if "mean" in transform else 0.0


@pytest.mark.parametrize(("fed", "trained", "wanted"), RANGES)
@pytest.mark.parametrize("before", ["", LRN], ids=["", "lrn"])
def test_stored_statistics(fed, trained, wanted, before, tmp_path):
    body = before + BATCH_NORM
    weights = save_gathered(tmp_path / "w.caffemodel", body, *values(trained))
    check(look(source(fed) + body, weights), wanted, "'norm' (BatchNorm)")


@pytest.mark.parametrize(("fed", "trained", "wanted"), [case for case in RANGES if "mean" not in "".join(case[:2])])
@pytest.mark.parametrize("ending", ["", ".h5"])
def test_merged_statistics(fed, trained, wanted, ending, tmp_path):
    weights = save_merged(tmp_path / f"w.caffemodel{ending}", values(trained)[0])
    check(look(source(fed) + merged(), weights), wanted, "'n0' (BN)")


def check(diagnosis, wanted, told):
    assert len(diagnosis.wrong) == bool(wanted) and not diagnosis.remarks
    for line in diagnosis.wrong:
        assert line.startswith(
            "net.prototxt:1: layer 'data' (DenseImageData): feeds pictures of 0 to 255 times `scale: "
        )
        assert f"by the statistics of layer {told} the weights were trained on" in line
        ranges = {"smaller": "values of about 1 (as 0 to 1, or -1 to 1)", "larger": "images of 0 to 255, with"}
        assert ranges[wanted] in line
        times = float(re.search(rf"expected a scale about (\d+) times {wanted} in transform_param", line)[1])
        assert 255 / 8 < times < 255 * 2


def test_statistics_of_the_images_themselves(tmp_path):
    body = layer("norm", "BatchNorm", ["x"], "y")
    weights = save_gathered(tmp_path / "w.caffemodel", body, 1 / 255)
    (line,) = look(source() + body, weights).wrong
    assert "'norm' (BatchNorm)" in line and "smaller" in line
    assert look(source(UNIT) + body, weights).wrong == []


def test_branches_before_the_statistics(tmp_path):
    """ENet's first block: a convolution beside a pooling, with one normalisation after both."""
    pool = layer("pool", "Pooling", ["x"], "pool", "pooling_param { kernel_size: 3 stride: 1 pad: 1 }")
    body = convolution("conv", "x") + pool + layer("both", "Concat", ["conv", "pool"], "both")
    body += layer("norm", "BatchNorm", ["both"], "both")
    weights = save_gathered(tmp_path / "w.caffemodel", body, 1 / 255)
    assert len(look(source() + body, weights).wrong) == 1
    assert look(source(UNIT) + body, weights).wrong == []


INPUT = layer("in", "Input", [], "x", "input_param { shape { dim: 1 dim: 3 dim: 9 dim: 9 } }")


@pytest.mark.parametrize(("scale", "said"), [(1, "images of 0 to 255"), (1 / 255, "values of about 1"), (0.05, None)])
@pytest.mark.parametrize("given", [FED, INPUT], ids=["input", "Input"])
def test_inputs_get_a_remark(scale, said, given, tmp_path):
    weights = save_gathered(tmp_path / "w.caffemodel", BATCH_NORM, scale)
    diagnosis = look(given + BATCH_NORM, weights)
    assert diagnosis.wrong == [] and len(diagnosis.remarks) == bool(said)
    for remark in diagnosis.remarks:
        assert remark.startswith(
            f"input 'x': by the statistics of layer 'norm' (BatchNorm) the weights were trained on {said}"
        )


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("by the batch", BATCH_NORM.replace('"BatchNorm"', '"BatchNorm" batch_norm_param { use_global_stats: false }')),
        ("two convolutions", convolution("first", "x", 3) + BATCH_NORM.replace('bottom: "x"', 'bottom: "first"')),
        ("of its own range", layer("mvn", "MVN", ["x"], "x") + BATCH_NORM),
        ("squashed", layer("tanh", "TanH", ["x"], "x") + BATCH_NORM),
    ],
)
def test_other_nets_are_not_judged(name, body, tmp_path):
    weights = save_gathered(tmp_path / "w.caffemodel", body, 1 / 255)
    assert look(source() + body, weights) == ([], []), name
    assert look(FED + body, weights) == ([], []), name


def test_other_images_are_not_judged(tmp_path):
    fed = inputs(x=(4, 6, *SIZE))
    weights = save_gathered(tmp_path / "w.caffemodel", BATCH_NORM, 1, fed=fed, data=pictures(6))
    assert look(fed + BATCH_NORM, weights) == ([], [])


def test_weights_that_do_not_fit_are_told_once(tmp_path):
    weights = save_gathered(tmp_path / "w.caffemodel", BATCH_NORM, 1 / 255)
    (line,) = look(source() + BATCH_NORM.replace("kernel_size: 5", "kernel_size: 3"), weights).wrong
    assert "blob 0 has the shape" in line
    (line,) = look(source() + BATCH_NORM.replace('"conv" type', '"other" type'), weights).wrong[:1]
    assert "not in the weights" in line


def change(weights, body, name, blob, values):
    net = caffe.Net(parse_net(FED + body, "net.prototxt"), str(weights), TEST)
    net.params[name][blob].data[...] = values
    net.save(str(weights))
    return look(source() + body, weights).wrong


def test_channels_that_contradict_each_other(tmp_path):
    weights = save_gathered(tmp_path / "w.caffemodel", BATCH_NORM, 1 / 255)
    assert change(weights, BATCH_NORM, "norm", 1, 10.0 ** -np.arange(-4, 4)) == []


def test_no_statistics_are_told_once(tmp_path):
    weights = save_gathered(tmp_path / "w.caffemodel", BATCH_NORM, 1 / 255)
    (line,) = change(weights, BATCH_NORM, "norm", 2, 0)
    assert "hold no statistics" in line
    assert change(weights, BATCH_NORM, "norm", 2, 1) != []  # so it was the count
    assert change(weights, BATCH_NORM, "norm", 1, 0) == []  # dead channels


def test_scales_of_a_training_are_not_statistics(tmp_path):
    """Untrained, INFERENCE and 0 to 255: the scales of 1 are not those of 0 to 1."""
    weights = save_merged(tmp_path / "w.caffemodel", 1, spread=0.0)
    (line,) = look(source() + merged(), weights).wrong
    assert "look like a training's" in line
    net = caffe.Net(parse_net(FED + merged(), "net.prototxt"), str(weights), TEST)
    net.save(str(weights))  # now the file says INFERENCE
    assert look(source() + merged(), weights) == ([], [])


def test_bn_that_looks_at_the_batch_has_no_use_for_statistics(tmp_path):
    weights = save_merged(tmp_path / "w.caffemodel", 1 / 255)
    (line,) = look(source() + merged("LEARN"), weights).wrong
    assert "bn_mode LEARN, but the weights have statistics merged in" in line


def soft(images, deviation=4):
    """Blurred by a Gaussian, in pixels."""
    rows, columns = (np.fft.fftfreq(side) for side in SIZE)
    gain = np.exp(-2 * (np.pi * deviation) ** 2 * (rows[:, None] ** 2 + columns**2))
    return np.fft.ifft2(np.fft.fft2(images) * gain).real.astype(np.float32)


def test_soft_images_are_no_other_range(tmp_path):
    """Second derivatives of soft images are 30 times smaller than those of sharp ones."""
    body = BATCH_NORM.replace("kernel_size: 5 pad: 2", "kernel_size: 3")
    laplace = np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]])[None, None] * np.linspace(1, 2, 8).reshape(8, 1, 1, 1)
    weights = tmp_path / "w.caffemodel"
    for scale, trained_on, wanted in ((1, soft, None), (1 / 255, soft, "smaller"), (1, np.asarray, None)):
        save_gathered(weights, body, scale, data=trained_on(pictures()), kernels=laplace)
        lines = look(source() + body, weights).wrong
        assert len(lines) == bool(wanted)
        assert not wanted or wanted in lines[0]


def test_bn_of_the_batch_follows_any_range(tmp_path):
    weights = save_gathered(tmp_path / "w.caffemodel", merged("LEARN"), 1 / 255)
    assert look(source() + merged("LEARN"), weights) == ([], [])


@pytest.mark.parametrize(
    ("dtype", "found"), [(np.uint8, "feeds pictures of 0 to 255"), (np.float32, None), (None, None)]
)
def test_records_of_floats_are_not_judged(dtype, found, tmp_path):
    if dtype:
        write_lmdb(tmp_path / "db", [datum(pictures()[0].astype(dtype), 1)])
    text = (
        f'layer {{ name: "data" type: "Data" top: "x" top: "label" data_param {{ source: "{tmp_path / "db"}" '
        "batch_size: 1 backend: LMDB } }\n"
    )
    weights = save_gathered(tmp_path / "w.caffemodel", BATCH_NORM, 1 / 255)
    diagnosis = look(text + BATCH_NORM, weights)
    assert len(diagnosis.wrong) == bool(found)
    assert not found or found in diagnosis.wrong[0]
    assert len(diagnosis.remarks) == (not found)


def test_a_mean_of_other_images_is_told(tmp_path):
    weights = save_gathered(tmp_path / "w.caffemodel", BATCH_NORM, 1)
    (line,) = look(source("mean_value: 1 mean_value: 2") + BATCH_NORM, weights).wrong
    assert line.startswith("net.prototxt:1: layer 'data' (DenseImageData): 2 mean values for an image with 3 channel")


def test_command(tmp_path, capsys):
    weights = str(save_gathered(tmp_path / "w.caffemodel", BATCH_NORM, 1 / 255))
    path = tmp_path / "net.prototxt"
    path.write_text(FED + BATCH_NORM)
    assert main(["doctor", str(path), weights]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == "nothing wrong found" and second.startswith("remark: input 'x': ")
    path.write_text(source() + BATCH_NORM)
    assert main(["doctor", str(path), weights]) == 1 and "times smaller" in capsys.readouterr().out


# ---- what others trained


def trained_net(transform):
    """The recorded SegNet-Basic's net for inference, fed by a data layer."""
    text = (TRAINED / "inference.prototxt").read_text()
    text, count = re.subn(r'input: "data"\n(input_dim: \d+\n)+', source(transform, "data", (96, 128)), text)
    assert count == 1
    return parse_net(text, "net.prototxt")


@needs_shared
@pytest.mark.parametrize(
    ("transform", "speaks"),
    [
        ("", False),
        ("mean_value: 104 mean_value: 117 mean_value: 123", False),
        ('mean_file: "mean.binaryproto"', False),
        (UNIT, True),
        ("scale: 0.0078125 mean_value: 127.5", True),
        ("scale: 0.1", False),
        ("scale: 3", False),
    ],
)
def test_segnet_basic(transform, speaks):
    """Trained at 0 to 255, behind its LRN."""
    diagnosis = examine(trained_net(transform), TRAINED / "test_weights.caffemodel")
    assert len(diagnosis.wrong) == speaks and diagnosis.remarks == []
    assert not speaks or "trained on images of 0 to 255" in diagnosis.wrong[0]


def pairs():
    """Nets and weights that belong together, as Caffe wrote them; SegNet-Basic's also with the published net."""
    golden = SHARED / "golden"
    for path in sorted([*golden.glob("real/*.caffemodel"), *golden.glob("formats/*.caffemodel*")]):
        yield path.with_name(path.name.partition(".")[0] + ".prototxt"), path
    for path in sorted(golden.glob("solvers/*/*.caffemodel*")):
        yield path.with_name(path.name.partition(".")[0] + ".prototxt"), path
    yield TRAINED / "inference.prototxt", TRAINED / "test_weights.caffemodel"
    yield TRAINED / "train.prototxt", TRAINED / "segnet_basic_96x128_iter_500.caffemodel"
    published = SHARED / "prototxt" / "segnet-tutorial" / "Models"
    yield published / "segnet_basic_inference.prototxt", TRAINED / "test_weights.caffemodel"
    yield published / "segnet_basic_train.prototxt", TRAINED / "segnet_basic_96x128_iter_500.caffemodel"


#: What the inputs of these nets are remarked to expect; those of the recipe's net have a deviation of 1.
EXPECTED = {"mini_bvlc": "values of about 1", "inference": "images of 0 to 255"}


@needs_shared
def test_no_false_alarm():
    checked = 0
    for net, weights in pairs():
        wrong, remarks = examine(read_net(net), weights)
        assert not [line for line in wrong if "trained on" in line or "blob" in line], weights
        expected = EXPECTED.get(net.stem)
        assert len(remarks) == bool(expected) and (not expected or expected in remarks[0]), weights
        checked += 1
    assert checked > 20
