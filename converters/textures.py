"""Pictures with the statistics of natural images, for those who ask what a layer makes of images and have none."""

from __future__ import annotations

import math

import numpy as np

#: Mean and deviation of all colours at 0 to 255. ImageNet's, as its users give them: 104 to 124, and 57 to 59.
_MEAN, _DEVIATION = 115.0, 58.0
#: How fast the amplitudes of natural images fall with the frequency: as f^-1.2 (Tolhurst, Tadmor and Chao, 1992).
_SLOPE = 1.2
#: The smallest side of the field that pictures are cut from, and its seed.
_SIDE, _SEED = 256, 0


def textures(channels: int, height: int, width: int, blur: float = 0.0, correlation: float = 0.95) -> np.ndarray:
    """Noise (N, H, W, C) in uint8 with the spectrum and the range of photographs; always the same.

    The pictures are parts of one field, so that small ones differ in their means, as patches of photographs do. There
    are as many as fill it.

    Args:
        channels, height, width: of a picture.
        blur: the deviation, in pixels, of a Gaussian that they are blurred with.
        correlation: between two colours of a pixel, 0.98 to 0.99 in CamVid, less where there is more colour.
    """
    rows, columns = (math.ceil(_SIDE / side) for side in (height, width))
    rng = np.random.default_rng(_SEED)
    size = (rows * height, columns * width)
    shared = _field(rng, *size, blur)
    own = math.sqrt(1 - correlation)
    planes = [math.sqrt(correlation) * shared + own * _field(rng, *size, blur) for _ in range(channels)]
    field = np.clip(np.round(_MEAN + _DEVIATION * np.stack(planes, axis=-1)), 0, 255).astype(np.uint8)
    parts = field.reshape(rows, height, columns, width, channels).swapaxes(1, 2)
    return parts.reshape(rows * columns, height, width, channels)


def _field(rng: np.random.Generator, height: int, width: int, blur: float) -> np.ndarray:
    """A plane (H, W) of deviation 1 and mean 0."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    frequency[0, 0] = 1  # anything: the mean is taken out
    amplitude = frequency**-_SLOPE * np.exp(-2 * (np.pi * blur * frequency) ** 2)
    amplitude[0, 0] = 0
    spectrum = np.fft.rfft2(rng.standard_normal((height, width))) * amplitude
    plane = np.fft.irfft2(spectrum, (height, width))
    return plane / plane.std()
