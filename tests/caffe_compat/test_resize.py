import numpy as np
import pytest

from caffe_compat.data.resize import bilinear, nearest

RNG = np.random.default_rng(1)


def taps(old, new, drop_fraction_outside):
    """The rule for one axis, pixel by pixel."""
    for i in range(new):
        s = np.float32((i + 0.5) * (1 / (new / old)) - 0.5)
        first = int(np.floor(s))
        fraction = np.float32(s - first)
        if drop_fraction_outside and not 0 <= first < old - 1:
            fraction = np.float32(0)
        pixels = [min(max(p, 0), old - 1) for p in (first, first + 1)]
        yield pixels, [int(np.rint(2048 * w)) for w in (1 - fraction, fraction)]


def slow_bilinear(plane, height, width):
    p = plane.astype(int)
    out = np.empty((height, width), np.uint8)
    for j, ((y0, y1), (b0, b1)) in enumerate(taps(p.shape[0], height, False)):
        for i, ((x0, x1), (a0, a1)) in enumerate(taps(p.shape[1], width, True)):
            t0, t1 = (a0 * p[y, x0] + a1 * p[y, x1] for y in (y0, y1))
            out[j, i] = ((b0 * (t0 >> 4) >> 16) + (b1 * (t1 >> 4) >> 16) + 2) >> 2
    return out


SIZES = [
    ((12, 12), (12, 12)),
    ((12, 12), (5, 31)),
    ((3, 40), (12, 12)),
    ((12, 9), (24, 18)),
    ((24, 18), (12, 9)),
    ((1, 1), (12, 3)),
    ((12, 1), (1, 12)),
    ((7, 12), (1, 1)),
    ((37, 23), (19, 29)),
]


@pytest.mark.parametrize(("old", "new"), SIZES)
def test_bilinear_is_the_fixed_point_rule(old, new):
    image = RNG.integers(0, 256, (*old, 3), dtype=np.uint8)
    result = bilinear(image, *new)
    assert result.dtype == np.uint8
    for channel in range(3):
        assert np.array_equal(result[:, :, channel], slow_bilinear(image[:, :, channel], *new))
        assert np.array_equal(bilinear(image[:, :, channel], *new), result[:, :, channel])


@pytest.mark.parametrize(("old", "new"), SIZES)
def test_other_types_are_computed_in_float(old, new):
    image = RNG.integers(0, 256, (*old, 5), dtype=np.uint8)
    exact = bilinear(image.astype(np.float32), *new)
    assert exact.dtype == np.float32
    assert np.abs(exact - bilinear(image, *new)).max() < 1.5


@pytest.mark.parametrize(("old", "new"), SIZES)
def test_nearest(old, new):
    label = RNG.integers(0, 256, old, dtype=np.uint8)
    want = [[label[j * old[0] // new[0], i * old[1] // new[1]] for i in range(new[1])] for j in range(new[0])]
    assert np.array_equal(nearest(label, *new), want)


def test_nearest_rounds_in_double_as_opencv():
    # 49 * 2 / 98 is 1, but OpenCV's step is 1 / (98 / 2), of which 49 end just below 1.
    assert nearest(np.arange(2)[:, None], 98, 1)[49, 0] == 0
