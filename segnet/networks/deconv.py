"""DeconvNet (Noh et al., 2015) as the paper's section 4 compares with it: 1,024 features in the middle.

Layers and blobs are named as published. Unpooling is SegNet's Upsample, which does the same.
"""

from __future__ import annotations

from prototxt.errors import CaffeError
from prototxt.net_spec import Top
from segnet.networks import vgg16
from segnet.networks.maker import Maker, pooled
from segnet.networks.network import network

#: Channels of the fully connected layers.
FEATURES = 1024
_KERNEL = 7


@network("deconvnet", "DeconvNet")
def deconvnet(maker: Maker) -> Top:
    """VGG16 with its fully connected layers, and its mirror image of unpoolings and deconvolutions.

    Raises:
        CaffeError: images so small that the first fully connected layer does not fit.
    """
    stages = vgg16.VGG16_STAGES
    if min(pooled(size, len(stages)) for size in (maker.height, maker.width)) < _KERNEL:
        raise CaffeError(
            f"deconvnet: images of {maker.height}x{maker.width}; expected at least "
            f"{2 ** len(stages) * (_KERNEL - 1) + 1} rows and columns, as fc6 takes {_KERNEL}x{_KERNEL} values of pool5"
        )
    x = vgg16.encoder(maker, maker.indexed_pooling, bn="bn{}")
    for name, kernel in (("fc6", _KERNEL), ("fc7", 1)):
        x = maker.convolution(x, name, FEATURES, kernel, pad=0, relu=f"relu{name[-1]}", bn=f"bn{name}")
        if not maker.inference:
            x = maker.dropout(x, f"drop{name[-1]}")
    name = "fc6-deconv"
    x = maker.filters(x, name, stages[-1][-1], _KERNEL, pad=0, kind="Deconvolution")
    x = maker.normalised(x, name, relu=f"{name}-relu", bn=f"{name}-bn")
    for stage, channels in reversed(list(enumerate(stages, 1))):
        x = maker.upsampling(x, stage, f"unpool{stage}")
        after = stages[stage - 2][-1] if stage > 1 else channels[0]
        for i, count in enumerate((*channels[:0:-1], after), 1):
            number = f"{stage}_{i}"
            x = maker.filters(x, f"deconv{number}", count, 3, kind="Deconvolution")
            x = maker.normalised(x, f"deconv{number}", relu=f"derelu{number}", bn=f"debn{number}")
    return maker.filters(x, "seg-score", maker.classes, 1)
