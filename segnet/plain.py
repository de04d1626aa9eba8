"""SegNet and SegNet-Basic as anyone would write them in plain PyTorch: the contenders in benchmarks."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from caffe_compat import Net
from segnet.networks import VGG16_STAGES


class _Plain(nn.Module):
    """An encoder and its mirror image: images (N, 3, H, W) to scores (N, classes, H, W)."""

    encoder: nn.ModuleList
    decoder: nn.ModuleList
    classify: nn.Conv2d

    def take_weights(self, net: Net) -> None:
        """Compute what the same network for inference computes: its weights, layer by layer in order."""
        blobs = [blob.data_tensor() for node in net.graph.nodes for blob in node.layer.blobs]
        with torch.no_grad():
            for parameter, values in zip(self.parameters(), blobs, strict=True):
                parameter.copy_(values.view(parameter.shape))
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.running_mean.zero_()
                    module.running_var.fill_(1 - module.eps)  # the statistics are merged into the net's weights

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Down through the encoder, keeping where the maxima were, and up again by those places."""
        places = []
        for stage in self.encoder:
            x = stage(x)
            size = x.shape[2:]
            x, indices = F.max_pool2d(x, 2, 2, ceil_mode=True, return_indices=True)
            places.append((size, indices))
        for stage, (size, indices) in zip(self.decoder, reversed(places), strict=True):
            x = stage(F.max_unpool2d(x, indices, 2, 2, output_size=size))
        return self.classify(x)


class PlainSegNet(_Plain):
    """SegNet (paper, section 3) without anything of Caffe: images (N, 3, H, W) to scores (N, classes, H, W)."""

    def __init__(self, classes: int = 11) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        channels = 3
        for stage in VGG16_STAGES:
            self.encoder.append(_stage([channels, *stage]))
            channels = stage[-1]
        for i, stage in reversed(list(enumerate(VGG16_STAGES))):
            narrow = VGG16_STAGES[i - 1][-1] if i else stage[0]
            self.decoder.append(_stage([*stage, narrow] if i else [*stage]))
        self.classify = nn.Conv2d(VGG16_STAGES[0][0], classes, 3, padding=1)


class PlainSegNetBasic(_Plain):
    """SegNet-Basic without anything of Caffe: images (N, 3, H, W) to scores (N, classes, H, W)."""

    def __init__(self, classes: int = 11, channels: int = 64, stages: int = 4) -> None:
        super().__init__()
        self.normalise = nn.LocalResponseNorm(5, 1e-4, 0.75)
        self.encoder = nn.ModuleList(_wide(3 if i == 0 else channels, channels, nn.ReLU(True)) for i in range(stages))
        self.decoder = nn.ModuleList(_wide(channels, channels) for _ in range(stages))
        self.classify = nn.Conv2d(channels, classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The images normalised first."""
        return super().forward(self.normalise(x))


def _wide(before: int, after: int, *more: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 7, padding=3), nn.BatchNorm2d(after), *more)


def _stage(channels: list[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in pairwise(channels):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)
