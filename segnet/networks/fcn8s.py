"""FCN-8s (Long et al., 2015) as the paper's section 4 compares with it: batch normalisation after every convolution.

Layers, padding and crops are the published network's.
"""

from __future__ import annotations

from prototxt.net_spec import Top
from prototxt.net_spec import layers as L
from prototxt.net_spec import params as P
from segnet.networks import vgg16
from segnet.networks.maker import Maker
from segnet.networks.network import network

#: Channels of VGG16's fully connected layers.
FEATURES = 4096


@network("fcn", "FCN")
def fcn(maker: Maker) -> Top:
    """Enlarged by bilinear interpolation that is not learnt."""
    return _scores(maker, fixed=True)


@network("fcn_learnt_deconvolution", "FCN (learnt deconvolution)")
def fcn_learnt_deconvolution(maker: Maker) -> Top:
    """Enlarged by deconvolutions that are learnt."""
    return _scores(maker, fixed=False)


def _scores(maker: Maker, *, fixed: bool) -> Top:
    n, classes = maker.n, maker.classes

    def joined(x: Top, stage: int, offset: int) -> Top:
        """The sum with the scores of an earlier pooling, of which the part is taken that lies under x."""
        score = maker.filters(n[f"pool{stage}"], f"score_pool{stage}", classes, 1)
        n[f"fuse_pool{stage}"] = L.Eltwise(
            x, maker.crop(score, f"score_pool{stage}c", x, offset), operation=P.Eltwise.SUM
        )
        return n[f"fuse_pool{stage}"]

    x = vgg16.encoder(maker, maker.pooling, first_pad=100)
    for name, kernel in (("fc6", 7), ("fc7", 1)):
        x = maker.convolution(x, name, FEATURES, kernel, pad=0, relu=f"relu{name[-1]}")
        if not maker.inference:
            x = maker.dropout(x, f"drop{name[-1]}")
    x = maker.filters(x, "score_fr", classes, 1)
    x = joined(maker.deconvolution(x, "upscore2", classes, 2, 4, fixed=fixed), 4, 5)
    x = joined(maker.deconvolution(x, "upscore_pool4", classes, 2, 4, fixed=fixed), 3, 9)
    return maker.crop(maker.deconvolution(x, "upscore8", classes, 8, 16, fixed=fixed), "score", maker.data, 31)
