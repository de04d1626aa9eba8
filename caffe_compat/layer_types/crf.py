"""Fully connected CRFs by mean field: DeepLab's DenseCRF and CRF-as-RNN's MultiStageMeanfield."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from caffe_compat.errors import LayerError
from caffe_compat.layer_base import BlobSpec, TorchLayer
from caffe_compat.permutohedral import Lattice
from caffe_compat.registry import layer
from caffe_compat.shapes import Shape, check_axes
from prototxt.caffe_pb2 import FillerParameter

_SMALLEST = torch.finfo(torch.float32).tiny  # Caffe's FLT_MIN


def pixel_features(height: int, width: int, scale: float) -> np.ndarray:
    """(H·W, 2): column and row of every pixel, divided by a standard deviation."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([columns.ravel(), rows.ravel()], axis=1) / scale


def color_features(image: torch.Tensor, scale: float) -> np.ndarray:
    """(H·W, 3): the colours of an image (3, H, W), divided by a standard deviation."""
    return image.detach().cpu().double().numpy().reshape(image.shape[0], -1).T / scale


class _Kernel:
    """A Gaussian kernel between all pixels, normalised at the pixel that receives."""

    def __init__(self, features: np.ndarray, like: torch.Tensor) -> None:
        self.lattice = Lattice(features, like.device)
        self.total = self.lattice.filter(like.new_ones(len(features), 1)) + 1e-20

    def __call__(self, values: torch.Tensor) -> torch.Tensor:
        """values (pixels, classes), averaged over the kernel."""
        return self.lattice.filter(values) / self.total


def _by_pixel(scores: torch.Tensor) -> torch.Tensor:
    """(C, H, W) → (H·W, C)."""
    return scores.flatten(1).T


@layer("DenseCRF")
class DenseCRF(TorchLayer):
    """Mean-field inference with a Potts model (DeepLab). No gradient passes.

    bottoms: scores (N, C, H, W); sizes (N, 1, 1, 2), the height and width that count; image (N, 3, H, W) for the
             bilateral kernels
    top:     probabilities (N, C, H, W), or their logarithms; zero beyond the size that counts

    Caffe takes the first image for every item; here each item has its own.
    """

    bottoms = (2, 3)

    def setup(self) -> None:
        """Read the kernels."""
        param = self.message.dense_crf_param
        self.iterations, self.gives_probability = param.max_iter, param.output_probability
        self.positional = _same_counts(pos_w=param.pos_w, pos_xy_std=param.pos_xy_std)
        self.bilateral = _same_counts(bi_w=param.bi_w, bi_xy_std=param.bi_xy_std, bi_rgb_std=param.bi_rgb_std)
        if bool(self.bilateral) != (len(self.message.bottom) == 3):
            raise LayerError(
                f"{len(self.message.bottom)} bottoms and {len(self.bilateral)} bilateral kernels; expected a third "
                "bottom, the image, where there is a `bi_w`, and none otherwise"
            )

    def top_shapes(self, *bottoms: Shape) -> list[Shape]:
        """That of the scores."""
        check_axes(bottoms[0], 4, "scores")
        if math.prod(bottoms[1]) != 2 * bottoms[0][0]:
            raise LayerError(f"sizes {tuple(bottoms[1])}; expected {(bottoms[0][0], 1, 1, 2)}, height and width")
        return [bottoms[0]]

    def forward(self, *bottoms: torch.Tensor) -> torch.Tensor:
        """Infer each item by itself."""
        scores, sizes = bottoms[0].detach(), bottoms[1].detach().reshape(-1, 2).to(torch.int64).tolist()
        top = torch.zeros_like(scores)
        for i, (height, width) in enumerate(sizes):
            if height >= scores.shape[2] and width >= scores.shape[3]:
                height, width = scores.shape[2:]
            height, width = min(height, scores.shape[2]), min(width, scores.shape[3])
            image = bottoms[2][i, :, :height, :width] if self.bilateral else None
            top[i, :, :height, :width] = self._infer(scores[i, :, :height, :width], image)
        return top

    def _infer(self, scores: torch.Tensor, image: torch.Tensor | None) -> torch.Tensor:
        unary = _by_pixel(scores)
        kernels = [(w, _Kernel(pixel_features(*scores.shape[1:], std), unary)) for w, std in self.positional]
        for w, std, color_std in self.bilateral:
            features = [pixel_features(*scores.shape[1:], std), color_features(image, color_std)]
            kernels.append((w, _Kernel(np.concatenate(features, axis=1), unary)))
        probability = _softmax(unary)
        for _ in range(self.iterations):
            probability = _softmax(unary + sum(w * kernel(probability) for w, kernel in kernels))
        result = probability if self.gives_probability else probability.clamp_min(_SMALLEST).log()
        return result.T.reshape(scores.shape)


def _same_counts(**lists: Sequence[float]) -> list[tuple[float, ...]]:
    if len({len(values) for values in lists.values()}) > 1:
        told = ", ".join(f"{len(values)} times `{name}`" for name, values in lists.items())
        raise LayerError(f"{told}; expected equally many, one of each for a kernel")
    return list(zip(*lists.values(), strict=True))


def _softmax(scores: torch.Tensor) -> torch.Tensor:
    """Along the classes; DeepLab's exponential is exactly zero below -20."""
    below = scores - scores.amax(1, keepdim=True)
    exponential = torch.where(below < -20, 0, below.exp())
    return exponential / exponential.sum(1, keepdim=True)


@layer("MultiStageMeanfield")
class MultiStageMeanfield(TorchLayer):
    """Mean-field iterations whose weights are learnt (CRF as a recurrent network).

    bottoms: unary scores (1, C, H, W); the scores to begin with, of the same shape; image (1, 3, H, W)
    top:     scores (1, C, H, W) for a soft-max to follow
    blobs:   weights of the spatial and of the bilateral kernel, compatibility, each (1, 1, C, C)

    Each iteration: q = unary - compatibility (W_s K_s softmax(q) + W_b K_b softmax(q)).
    """

    bottoms = (3, 3)
    overwrites_param_diffs = True

    def setup(self) -> None:
        """Read the kernels."""
        param = self.message.multi_stage_meanfield_param
        self.alpha, self.beta, self.gamma = param.theta_alpha, param.theta_beta, param.theta_gamma
        self.iterations = param.num_iterations
        if self.iterations < 2:
            raise LayerError(f"`num_iterations: {self.iterations}`; expected at least 2")
        if min(self.alpha, self.beta, self.gamma) <= 0:
            raise LayerError(
                f"theta_alpha {self.alpha}, theta_beta {self.beta}, theta_gamma {self.gamma}; expected numbers above 0"
            )

    def top_shapes(self, *bottoms: Shape) -> list[Shape]:
        """That of the scores."""
        unary, first, image = bottoms
        check_axes(unary, 4, "unary scores")
        if tuple(unary) != tuple(first) or (image[0], *image[2:]) != (unary[0], *unary[2:]):
            raise LayerError(
                f"bottoms {tuple(unary)}, {tuple(first)}, {tuple(image)}; expected scores and an image of one size"
            )
        return [unary]

    def param_specs(self, *bottoms: Shape) -> list[BlobSpec]:
        """Kernel weights as written and a compatibility of -1, each on its diagonal."""
        classes = bottoms[0][1]
        param = self.message.multi_stage_meanfield_param
        diagonals = {
            "spatial": _numbers(param.spatial_filter_weights_str, "spatial_filter_weights_str", classes),
            "bilateral": _numbers(param.bilateral_filter_weights_str, "bilateral_filter_weights_str", classes),
            "compatibility": [-1.0] * classes,
        }
        shape = (1, 1, classes, classes)
        return [
            BlobSpec(name, shape, FillerParameter(), np.diag(diagonal).ravel().tolist())
            for name, diagonal in diagonals.items()
        ]

    def forward(self, *bottoms: torch.Tensor) -> torch.Tensor:
        """Iterate, item by item."""
        return torch.stack([self._item(*items) for items in zip(*bottoms, strict=True)])

    def _item(self, scores: torch.Tensor, first: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        size = scores.shape[1:]
        spatial = _Kernel(pixel_features(*size, self.gamma), scores)
        features = [pixel_features(*size, self.alpha), color_features(image, self.beta)]
        bilateral = _Kernel(np.concatenate(features, axis=1), scores)
        unary, q = _by_pixel(scores), _by_pixel(first)
        weights = [blob.flatten(0, 2) for blob in (self.spatial, self.bilateral, self.compatibility)]
        for _ in range(self.iterations):
            probability = q.softmax(1)
            messages = spatial(probability) @ weights[0].T + bilateral(probability) @ weights[1].T
            q = unary - messages @ weights[2].T
        return q.T.reshape(scores.shape)


def _numbers(text: str, name: str, count: int) -> list[float]:
    try:
        numbers = [float(word) for word in text.split()]
    except ValueError:
        numbers = []
    if len(numbers) != count:
        raise LayerError(f"`{name}: {text!r}`; expected {count} numbers, one for each class")
    return numbers
