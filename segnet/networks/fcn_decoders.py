"""FCN's way of decoding on SegNet-Basic's encoder (paper, section 3.1 and Table 1).

Maps are enlarged by deconvolution, from plane to plane of the encoder, instead of by indices and convolution.
"""

from __future__ import annotations

from prototxt.net_spec import Top
from prototxt.net_spec import layers as L
from prototxt.net_spec import params as P
from segnet.networks.basic import CHANNELS, STAGES, basic_encoder
from segnet.networks.maker import Maker
from segnet.networks.network import network

_KERNEL = 8


@network("fcn_basic", "FCN-Basic")
def fcn_basic(maker: Maker) -> Top:
    """Reduced to a map for each class, enlarged four times, and the encoder's reduced maps added on the way."""
    return _decoded(maker, addition=True, reduction=True)


@network("fcn_basic_no_addition", "FCN-Basic-NoAddition")
def fcn_basic_no_addition(maker: Maker) -> Top:
    """FCN-Basic without the encoder's maps."""
    return _decoded(maker, addition=False, reduction=True)


@network("fcn_basic_no_dim_reduction", "FCN-Basic-NoDimReduction")
def fcn_basic_no_dim_reduction(maker: Maker) -> Top:
    """FCN-Basic with all 64 maps throughout, which are classified at the end."""
    return _decoded(maker, addition=True, reduction=False)


@network("fcn_basic_no_addition_no_dim_reduction", "FCN-Basic-NoAddition-NoDimReduction")
def fcn_basic_no_addition_no_dim_reduction(maker: Maker) -> Top:
    """Without both."""
    return _decoded(maker, addition=False, reduction=False)


@network("bilinear_interpolation", "Bilinear-Interpolation")
def bilinear_interpolation(maker: Maker) -> Top:
    """Classified behind the encoder, and enlarged at once by interpolation; nothing of the decoder is learnt."""
    x = maker.filters(basic_encoder(maker, maker.pooling), "conv_classifier", maker.classes, 1)
    factor = 2**STAGES
    x = maker.deconvolution(x, "upscore", maker.classes, factor, 2 * factor, pad=factor // 2, fixed=True)
    return maker.crop(x, "score", maker.data)


def _decoded(maker: Maker, *, addition: bool, reduction: bool) -> Top:
    def reduced(stage: int) -> Top:
        pool = maker.n[f"pool{stage}"]
        return maker.filters(pool, f"score_pool{stage}", maker.classes, 1) if reduction else pool

    basic_encoder(maker, maker.pooling)
    channels = maker.classes if reduction else CHANNELS
    x = reduced(STAGES)
    for stage in range(STAGES, 0, -1):
        x = maker.deconvolution(x, f"deconv{stage}", channels, 2, _KERNEL, pad=(_KERNEL - 2) // 2)
        x = maker.crop(x, f"crop{stage}", maker.n[f"pool{stage - 1}"] if stage > 1 else maker.data)
        if addition and stage > 1:
            maker.n[f"add{stage}"] = x = L.Eltwise(x, reduced(stage - 1), operation=P.Eltwise.SUM)
    return x if reduction else maker.filters(x, "conv_classifier", maker.classes, 1)
