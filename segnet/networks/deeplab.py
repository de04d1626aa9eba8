"""DeepLab-LargeFOV (Chen et al., 2015) as the paper's section 4 compares with it."""

from __future__ import annotations

from prototxt.net_spec import Top
from prototxt.net_spec import layers as L
from prototxt.net_spec import params as P
from segnet.networks import vgg16
from segnet.networks.maker import Maker
from segnet.networks.network import network

#: Channels of the layers that were VGG16's fully connected ones.
FEATURES = 1024
_HALVING_STAGES = (1, 2, 4)
_DILATIONS = (1, 1, 1, 2, 2)  # what a stage's filters lost in reach where a pooling before it does not halve
_LARGE_FIELD_DILATION = 12
_FACTOR = 2 ** len(_HALVING_STAGES)


@network("deeplab_largefov", "DeepLab-LargeFOV")
def deeplab_largefov(maker: Maker) -> Top:
    """Scores at an eighth of the image's size, with pool 3 at stride 1, enlarged by fixed bilinear interpolation."""

    def pool(x: Top, stage: int) -> Top:
        return maker.pooling(x, stage, **({} if stage in _HALVING_STAGES else dict(kernel=3, stride=1, pad=1)))

    x = vgg16.encoder(maker, pool, dilations=_DILATIONS)
    maker.n.pool5a = x = L.Pooling(x, pool=P.Pooling.AVE, kernel_size=3, stride=1, pad=1)
    for name, kernel, dilation in (("fc6", 3, dict(dilation=_LARGE_FIELD_DILATION)), ("fc7", 1, {})):
        x = maker.convolution(x, name, FEATURES, kernel, relu=f"relu{name[-1]}", **dilation)
        if not maker.inference:
            x = maker.dropout(x, f"drop{name[-1]}")
    x = maker.filters(x, "fc8", maker.classes, 1)
    x = maker.deconvolution(x, "upscore8", maker.classes, _FACTOR, 2 * _FACTOR, pad=_FACTOR // 2, fixed=True)
    return maker.crop(x, "score", maker.data)
