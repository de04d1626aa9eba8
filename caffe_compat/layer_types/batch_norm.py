"""BatchNorm: BVLC Caffe's batch normalisation, without scale and shift. It is not SegNet's BN."""

from __future__ import annotations

import torch

from caffe_compat.errors import LayerError
from caffe_compat.layer_base import BlobSpec, TorchLayer, leaves_traces
from caffe_compat.layer_types.bn import normalise
from caffe_compat.registry import layer
from caffe_compat.shapes import Shape
from prototxt.caffe_pb2 import FillerParameter


@layer("BatchNorm")
class BatchNorm(TorchLayer):
    """(x - mean) / sqrt(variance + eps) per channel, with the batch's statistics or with stored ones.

    ``use_global_stats`` chooses the stored ones; by default in TEST. With the batch's, every forward pass puts them
    into the stored sums, whose weight decays by ``moving_average_fraction``.

    bottom: x (N, C, ...); with one axis C is 1
    top:    the same shape
    blobs:  sum of means (C,), sum of variances (C,), sum of weights (1,); never learnt
    """

    def setup(self) -> None:
        """Read the parameters; the blobs' rates are 0, said or not (Caffe)."""
        param = self.message.batch_norm_param
        self.written = param.use_global_stats if param.HasField("use_global_stats") else None
        self.fraction, self.epsilon = param.moving_average_fraction, param.eps
        learnt = [i for i, setting in enumerate(self.message.param) if setting.HasField("lr_mult") and setting.lr_mult]
        if learnt:
            raise LayerError(f"`lr_mult` of blob {learnt[0]} is not 0; expected 0, the statistics are not learnt")
        while len(self.message.param) < 3:
            self.message.param.add()
        for setting in self.message.param:
            setting.lr_mult = 0

    def top_shapes(self, *bottoms: Shape) -> list[Shape]:
        """The bottom's own shape."""
        channels = bottoms[0][1] if len(bottoms[0]) > 1 else 1
        mean = getattr(self, "mean", None)
        if mean is not None and mean.numel() != channels:
            raise LayerError(f"the bottom has {channels} channels, but the statistics are of {mean.numel()}")
        return [bottoms[0]]

    def param_specs(self, *bottoms: Shape) -> list[BlobSpec]:
        """The stored sums, all 0 to begin with."""
        channels = bottoms[0][1] if len(bottoms[0]) > 1 else 1
        shapes = {"mean": (channels,), "variance": (channels,), "weight": (1,)}
        return [BlobSpec(name, shape, FillerParameter()) for name, shape in shapes.items()]

    def forward(self, *bottoms: torch.Tensor) -> torch.Tensor:
        """Normalise."""
        x = bottoms[0] if bottoms[0].dim() > 1 else bottoms[0].unsqueeze(1)
        with_stored = self.written if self.written is not None else not self.training
        y = self.by_stored(x) if with_stored else self.by_batch(x)
        return y.view_as(bottoms[0])

    def by_stored(self, x: torch.Tensor) -> torch.Tensor:
        """With the stored statistics."""
        along = (1, -1, *(1,) * (x.dim() - 2))
        weight = self.weight.detach()
        factor = torch.where(weight == 0, torch.zeros_like(weight), 1 / weight)
        mean, variance = (self.mean.detach() * factor).view(along), (self.variance.detach() * factor).view(along)
        deviation = (variance + self.epsilon).sqrt()
        return (x.sub_(mean) if self.may_overwrite() else x - mean).div_(deviation)

    def by_batch(self, x: torch.Tensor) -> torch.Tensor:
        """With the batch's statistics, which are then stored."""
        y, mean, variance = normalise(x, None, None, self.epsilon, self.may_overwrite())
        self.store(mean, variance, x.numel() // x.shape[1])
        return y

    @torch.no_grad()
    def store(self, mean: torch.Tensor, variance: torch.Tensor, count: int) -> None:
        """Add statistics of ``count`` values per channel to the stored sums; the variance unbiased."""
        if not leaves_traces():
            return
        unbiased = variance * (count / (count - 1)) if count > 1 else variance
        for blob, value in ((self.mean, mean), (self.variance, unbiased), (self.weight, 1.0)):
            blob.mul_(self.fraction).add_(value)


@layer("BatchNorm", "deeplab")
class BatchNormDeepLab(BatchNorm):
    """With ``update_global_stats`` in TRAIN, stored statistics are used and follow the data.

    The variance is then the batch's about the stored mean. (With the batch's own statistics DeepLab's code never
    computes a variance; here that is BVLC's BatchNorm.)
    """

    def setup(self) -> None:
        """Read the switch too."""
        super().setup()
        self.follows = self.message.batch_norm_param.update_global_stats

    def by_stored(self, x: torch.Tensor) -> torch.Tensor:
        """With the stored mean, and the variance about it where the statistics follow."""
        if not (self.follows and self.training):
            return super().by_stored(x)
        along = (1, -1, *(1,) * (x.dim() - 2))
        weight = self.weight.detach()
        mean = self.mean.detach() * torch.where(weight == 0, torch.zeros_like(weight), 1 / weight)
        centred = x - mean.view(along)
        axes = [axis for axis in range(x.dim()) if axis != 1]
        variance = centred.detach().square().mean(axes)
        self.store(mean, variance, x.numel() // x.shape[1])
        return centred / (variance + self.epsilon).sqrt().view(along)
