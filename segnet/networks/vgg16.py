"""The 13 convolutions of VGG16, with which SegNet, FCN, DeepLab and DeconvNet begin."""

from __future__ import annotations

from collections.abc import Callable

from prototxt.net_spec import Top
from segnet.networks.maker import Maker

#: Output channels of the convolutions, stage by stage. A decoder that mirrors them reads them here too.
VGG16_STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


def encoder(
    maker: Maker,
    after: Callable[[Top, int], Top],
    *,
    bn: str = "conv{}_bn",
    dilations: tuple[int, ...] = (1, 1, 1, 1, 1),
    first_pad: int = 1,
) -> Top:
    """The convolutions ``conv1_1`` to ``conv5_3``, each with batch normalisation and ReLU.

    Args:
        maker: of the net.
        after: adds what ends a stage, its pooling, from the last convolution's top and the stage's number.
        bn: the names of the batch normalisations, from the convolution's number.
        dilations: of the convolutions, stage by stage.
        first_pad: padding of the first convolution.
    """
    x = maker.data
    for stage, (channels, dilation) in enumerate(zip(VGG16_STAGES, dilations, strict=True), 1):
        geometry = dict(dilation=dilation) if dilation > 1 else {}
        for i, count in enumerate(channels, 1):
            number = f"{stage}_{i}"
            pad = dict(pad=first_pad) if number == "1_1" else {}
            name, relu = f"conv{number}", f"relu{number}"
            x = maker.convolution(x, name, count, 3, relu=relu, bn=bn.format(number), **pad, **geometry)
        x = after(x, stage)
    return x
