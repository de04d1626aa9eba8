"""SegNet and Bayesian SegNet (paper, section 3), with layers and blobs named as published, so that weights load."""

from __future__ import annotations

from dataclasses import replace

from prototxt.net_spec import Top
from segnet.networks import vgg16
from segnet.networks.maker import Maker
from segnet.networks.network import network

#: Dropout belongs to the deep stages (Bayesian SegNet).
FIRST_DROPPED_STAGE = 3


@network("segnet", "SegNet", net_name="VGG_ILSVRC_16_layer")
def segnet(maker: Maker, *, bayesian: bool = False) -> Top:
    """VGG16's 13 convolutions as the encoder, and its mirror image as the decoder.

    ``bayesian``: with dropout after the three deepest stages, which stays on for inference.
    """
    stages = vgg16.VGG16_STAGES
    if bayesian:
        maker = replace(maker, bn_shift=0.0)

    def dropped(x: Top, stage: int, name: str) -> Top:
        wanted = bayesian and stage >= FIRST_DROPPED_STAGE
        return maker.dropout(x, f"{name}{stage}", sample=True) if wanted else x

    x = vgg16.encoder(maker, lambda x, stage: dropped(maker.indexed_pooling(x, stage), stage, "encdrop"))
    for stage, channels in reversed(list(enumerate(stages, 1))):
        x = maker.upsampling(x, stage, f"upsample{stage}", top=f"pool{stage}_D")
        before = stages[stage - 2][-1] if stage > 1 else maker.classes
        for i, count in reversed(list(enumerate((before, *channels[:-1]), 1))):
            if (stage, i) != (1, 1):
                x = maker.convolution(x, f"conv{stage}_{i}_D", count, 3, relu=f"relu{stage}_{i}_D")
        x = dropped(x, stage, "decdrop")
    return maker.filters(x, "conv1_1_D", maker.classes, 3)
