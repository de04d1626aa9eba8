"""SegNet-Basic, its Bayesian form, and the decoders that the paper's Table 1 varies with its indices kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from prototxt.net_spec import Top
from prototxt.net_spec import layers as L
from prototxt.net_spec import params as P
from segnet.networks.full import FIRST_DROPPED_STAGE
from segnet.networks.maker import Maker
from segnet.networks.network import network

STAGES, CHANNELS = 4, 64
_KERNEL = 7


@network("segnet_basic", "SegNet-Basic", net_name="segnet")
def segnet_basic(maker: Maker, *, bayesian: bool = False) -> Top:
    """Four stages of one 7×7 convolution, no ReLU in the decoder; ``bayesian`` as for SegNet."""
    classifier = "dense_softmax_inner_prod" if bayesian else "conv_classifier"
    return _decoded(maker, bayesian=bayesian, classifier=classifier)


@network("segnet_basic_encoder_addition", "SegNet-Basic-EncoderAddition")
def segnet_basic_encoder_addition(maker: Maker) -> Top:
    """What each decoder's convolution gives is added to the encoder's maps of that stage, as they go to the pooling."""
    return _decoded(maker, addition=True)


@network("segnet_basic_single_channel_decoder", "SegNet-Basic-SingleChannelDecoder")
def segnet_basic_single_channel_decoder(maker: Maker) -> Top:
    """Each filter of the decoder convolves one of the upsampled maps."""
    return _decoded(maker, group=CHANNELS)


def basic_encoder(maker: Maker, pool: Callable[[Top, int], Top], *, bayesian: bool = False) -> Top:
    """Normalised images through four stages: ``conv1`` to ``conv4``, each pooled into ``pool1`` to ``pool4``.

    ``pool``: a Maker's way of pooling, with indices or without.
    """
    maker = _published(maker)
    maker.n.norm = x = L.LRN(maker.data, local_size=5, alpha=0.0001, beta=0.75)
    for stage in range(1, STAGES + 1):
        x = maker.convolution(x, f"conv{stage}", CHANNELS, _KERNEL, relu=f"relu{stage}")
        x = pool(x, stage)
        if bayesian and stage >= FIRST_DROPPED_STAGE:
            x = maker.dropout(x, f"encdrop{stage}", sample=True)
    return x


def _decoded(
    maker: Maker,
    *,
    bayesian: bool = False,
    addition: bool = False,
    group: int = 1,
    classifier: str = "conv_classifier",
) -> Top:
    maker = _published(maker)
    x = basic_encoder(maker, maker.indexed_pooling, bayesian=bayesian)
    geometry = dict(group=group) if group > 1 else {}
    for stage in range(STAGES, 0, -1):
        x = maker.upsampling(x, stage, f"upsample{stage}")
        x = maker.convolution(x, f"conv_decode{stage}", CHANNELS, _KERNEL, **geometry)
        if addition:
            maker.n[f"add{stage}"] = x = L.Eltwise(x, maker.n[f"relu{stage}"], operation=P.Eltwise.SUM)
        if bayesian and stage >= FIRST_DROPPED_STAGE:
            x = maker.dropout(x, f"decdrop{stage}", sample=True)
    return maker.filters(x, classifier, maker.classes, 1)


def _published(maker: Maker) -> Maker:
    """The published SegNet-Basic sets no rates for its batch normalisations: both are 1, with decay."""
    return replace(maker, bn_params=())
