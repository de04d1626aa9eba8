"""Image resizing with OpenCV's arithmetic of Caffe's time, bit for bit.

The results decide labels near edges: an ordinary bilinear filter is off by one on many pixels, and an antialiased one
(Pillow, torch with ``antialias=True``) gives another image.
"""

from __future__ import annotations

import numpy as np

# Weights are integers with 11 fractional bits; two of them multiplied make the 22 that the shifts take away.
_ONE = 2048


def bilinear(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize with OpenCV's CV_INTER_LINEAR: half-pixel centres, no antialiasing.

    Args:
        image: ``(H, W)`` or ``(H, W, C)``. uint8 is computed in OpenCV's fixed point, any other type in float32.
        height: of the result, in pixels.
        width: of the result, in pixels.

    Returns:
        ``(height, width)`` or ``(height, width, C)``, uint8 or float32 like the input.
    """
    if image.shape[:2] == (height, width):
        return image
    rows, columns = image.shape[:2]
    channels = image.shape[2] if image.ndim == 3 else 1
    y, y_next, fy = _taps(rows, height)
    x, x_next, fx = _taps(columns, width)
    # On this axis alone OpenCV drops the fraction beyond the outer pixel centres; elsewhere both taps are one pixel.
    fx = np.where(x == x_next, np.float32(0), fx)
    needed, place = np.unique(np.concatenate([y, y_next]), return_inverse=True)
    lines = image.reshape(rows, columns * channels)
    if len(needed) < rows:
        lines = lines[needed]
    left, right = (lines.take(_interleaved(index, channels), axis=1) for index in (x, x_next))
    blend = _blend_fixed if image.dtype == np.uint8 else _blend_float
    result = blend(left, right, np.repeat(fx, channels), place[:height], place[height:], fy[:, None])
    return result.reshape(height, width, *image.shape[2:])


def nearest(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize with OpenCV's CV_INTER_NN: the pixel at ``floor(i * old / new)`` in double precision.

    Args:
        image: ``(H, W)`` or ``(H, W, C)`` of any type.
        height: of the result, in pixels.
        width: of the result, in pixels.
    """
    rows, columns = (
        np.minimum(np.floor(np.arange(new) * _ratio(old, new)).astype(np.intp), old - 1)
        for old, new in zip(image.shape[:2], (height, width), strict=True)
    )
    return image[rows[:, None], columns]


def _ratio(old: int, new: int) -> float:
    # OpenCV forms the inverse of the inverse, which can end just below a whole number.
    return 1.0 / (new / old)


def _taps(old: int, new: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per output pixel of one axis: the two source pixels, clamped, and the weight of the second in float32."""
    position = ((np.arange(new) + 0.5) * _ratio(old, new) - 0.5).astype(np.float32)
    first = np.floor(position)
    fraction = position - first
    first = first.astype(np.intp)
    return first.clip(0, old - 1), (first + 1).clip(0, old - 1), fraction


def _interleaved(columns: np.ndarray, channels: int) -> np.ndarray:
    """Positions of whole pixels in a line that holds one channel beside the other."""
    return (columns[:, None] * channels + np.arange(channels)).ravel()


def _blend_fixed(
    left: np.ndarray, right: np.ndarray, fx: np.ndarray, upper: np.ndarray, lower: np.ndarray, fy: np.ndarray
) -> np.ndarray:
    """First along x, ``left`` and ``right`` being all lines needed; then along y, the lines ``upper`` and ``lower``."""
    a0, a1 = _fixed(1 - fx), _fixed(fx)
    b0, b1 = _fixed(1 - fy), _fixed(fy)
    lines = left * a0
    lines += right * a1
    lines >>= 4
    result, other = lines[upper], lines[lower]
    result *= b0
    result >>= 16
    other *= b1
    other >>= 16
    result += other
    result += 2
    result >>= 2
    return result.astype(np.uint8)


def _fixed(weight: np.ndarray) -> np.ndarray:
    return np.rint(weight * np.float32(_ONE)).astype(np.int32)


def _blend_float(
    left: np.ndarray, right: np.ndarray, fx: np.ndarray, upper: np.ndarray, lower: np.ndarray, fy: np.ndarray
) -> np.ndarray:
    lines = left.astype(np.float32) * (1 - fx) + right.astype(np.float32) * fx
    return lines[upper] * (1 - fy) + lines[lower] * fy
