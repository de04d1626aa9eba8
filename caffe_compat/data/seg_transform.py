"""What DeconvNet's and DeepLab's data layers do to an image and its label image together."""

from __future__ import annotations

import numpy as np

from caffe_compat.data import resize
from caffe_compat.data.transform import Transform, crop_of, crop_place
from prototxt.caffe_pb2 import TRAIN, TransformationParameter


class SegTransform:
    """Scale by one of ``scale_factors``, pad to the crop, crop, mirror; subtract the mean from the image and scale it.

    Args:
        param: of the layer. TRAIN crops at random, TEST in the middle. Mirror and scale factor are drawn in both.
        phase: TRAIN or TEST.
        ignore_label: what the label is padded with; the image is padded with its mean.

    Raises:
        LayerError: the settings contradict each other.
    """

    def __init__(self, param: TransformationParameter, phase: int, ignore_label: int) -> None:
        of_values = TransformationParameter()
        of_values.CopyFrom(param)
        of_values.crop_size, of_values.mirror = 0, False
        self._values = Transform(of_values, phase)
        self.crop = crop_of(param)
        self.mirror = param.mirror
        self.scale_factors = np.array(param.scale_factors, np.float32)
        self.random_crop = phase == TRAIN
        self.ignore_label = ignore_label

    def __call__(self, image: np.ndarray, label: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """An image ``(H, W, C)`` or ``(H, W)`` and its label ``(H, W)`` as float32 ``(C, h, w)`` and ``(1, h, w)``.

        Raises:
            LayerError: the number of mean values does not fit the image.
        """
        mirrored = bool(self.mirror and rng.integers(2))
        if self.scale_factors.size:
            factor = self.scale_factors[rng.integers(len(self.scale_factors))]
            size = [max(1, int(side * factor)) for side in label.shape]
            image, label = resize.bilinear(image, *size), resize.nearest(label, *size)
        data, label = self._values(image, rng), label[None].astype(np.float32)
        if self.crop:
            missing = [max(0, part - whole) for part, whole in zip(self.crop, label.shape[1:], strict=True)]
            below_and_right = ((0, 0), (0, missing[0]), (0, missing[1]))
            # Caffe pads with the mean before it is subtracted, which leaves zero.
            data = np.pad(data, below_and_right)
            label = np.pad(label, below_and_right, constant_values=self.ignore_label)
            rows, columns = crop_place(label.shape[1:], self.crop, rng if self.random_crop else None)
            data, label = data[:, rows, columns], label[:, rows, columns]
        if mirrored:
            data, label = data[:, :, ::-1], label[:, :, ::-1]
        return np.ascontiguousarray(data), np.ascontiguousarray(label)


def problems(param: TransformationParameter, layer_type: str) -> list[str]:
    """Settings that Caffe refuses for an image with a label image."""
    found = []
    if param.mean_file:
        found.append(
            f"transform_param has a mean_file, which {layer_type} does not read; give mean_value, one a channel"
        )
    if param.crop_size and (param.crop_height or param.crop_width):
        found.append("transform_param has crop_size and crop_height or crop_width; expected one way to say it")
    elif bool(param.crop_height) != bool(param.crop_width):
        given, other = ("crop_height", "crop_width") if param.crop_height else ("crop_width", "crop_height")
        found.append(f"transform_param has {given} without {other}; expected both or neither. Add {other}")
    found += [
        f"transform_param.scale_factors: {factor:g}; expected numbers above 0"
        for factor in param.scale_factors
        if factor <= 0
    ]
    return found
