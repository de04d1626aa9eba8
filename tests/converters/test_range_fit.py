"""The range is told for many kinds of images and kernels, and never where it is right. Images: CamVid's."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image, ImageFilter

from caffe_compat.build_graph import build_graph
from converters.input_range import wrong_ranges
from prototxt.blobs import BlobArray
from prototxt.caffe_pb2 import TEST, LayerParameter
from prototxt.net_file import parse_net
from prototxt.weights import LayerWeights
from prototxt.weights_h5 import read_weights
from tests.converters.test_class_count import layer, linear
from tests.shared import SHARED, needs_shared

GUISES = {
    "as they are": lambda image: image,
    "reduced": lambda image: image.resize((128, 96), Image.BILINEAR),
    "reduced without smoothing": lambda image: image.resize((60, 45), Image.NEAREST),
    "blurred": lambda image: image.filter(ImageFilter.GaussianBlur(3)),
    "very blurred": lambda image: image.filter(ImageFilter.GaussianBlur(8)),
    "dark": lambda image: image.point(lambda value: value // 4),
    "pale": lambda image: image.point(lambda value: 110 + value // 8),
}


def kernels():
    """Random ones, edges of several kinds, and what others learnt."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[-3:4, -3:4]
    angles = np.arange(32) * np.pi / 16
    waves = [
        np.cos((0.25 + 0.5 * (i % 3)) * np.pi * (x * np.cos(angle) + y * np.sin(angle)) + i)
        for i, angle in enumerate(angles)
    ]
    gabor = np.exp(-(x**2 + y**2) / 8) * np.stack(waves)
    gabor -= gabor.mean(axis=(1, 2), keepdims=True)
    second = np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]])
    yield "random 3x3", rng.standard_normal((32, 3, 3, 3))
    yield "random 7x7", rng.standard_normal((64, 3, 7, 7))
    yield "gabor", np.repeat(gabor[:, None], 3, axis=1)
    yield "second derivatives", rng.standard_normal((8, 3, 1, 1)) * second
    yield "colours", rng.standard_normal((16, 1, 3, 3)) * np.array([1, -2, 1]).reshape(3, 1, 1)
    learnt = SHARED / "models" / "segnet_basic_96x128" / "test_weights.caffemodel"
    for path in (*sorted((SHARED / "golden" / "real").glob("*.caffemodel")), learnt):
        stored = {one.name: one for one in read_weights(path).layers}
        yield path.stem, stored["conv1"].blobs[0].data


def said(weight, variance, scale):
    """What is said of a net with these kernels and statistics, fed at a scale."""
    text = (
        'layer { name: "data" type: "DenseImageData" top: "x" top: "label" dense_image_data_param { source: "none.txt" '
        f"batch_size: 1 new_height: 96 new_width: 128 }} transform_param {{ scale: {scale} }} }}\n"
        + linear("c", "x", len(weight), param=f"kernel_size: {weight.shape[2]} bias_term: false")
        + layer("n", "BatchNorm", ["c"], "c")
    )
    blobs = {"c": [weight], "n": [np.zeros_like(variance), variance, np.ones(1, np.float32)]}
    stored = {name: LayerWeights(LayerParameter(name=name), [BlobArray(own) for own in blobs[name]]) for name in blobs}
    return list(wrong_ranges(build_graph(parse_net(text, "net.prototxt"), TEST), stored))


@needs_shared
@pytest.mark.slow
def test_many_images_and_kernels():
    images = [Image.open(path).convert("RGB") for path in sorted((SHARED / "camvid" / "train").iterdir())[::40]]
    too_small, too_large = [], []
    for guise in GUISES.values():
        bgr = np.stack([np.asarray(guise(image), np.float32)[..., ::-1].transpose(2, 0, 1) for image in images])
        for name, weight in kernels():
            weight = weight.astype(np.float32)
            variance = F.conv2d(torch.from_numpy(bgr), torch.from_numpy(weight)).var(dim=(0, 2, 3)).numpy()
            assert not said(weight, variance, 1) and not said(weight, variance / 255**2, 1 / 255), name
            too_small += said(weight, variance, 1 / 255)
            too_large += said(weight, variance / 255**2, 1)
    assert all("times larger" in line for line in too_small) and all("times smaller" in line for line in too_large)
    assert (len(too_small), len(too_large)) == (60, 60)  # of 63; see docs/tools.md
