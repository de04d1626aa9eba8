"""What VGG16 is (Simonyan and Zisserman, configuration D), under Caffe's names and under torchvision's."""

from __future__ import annotations

from itertools import chain

#: Output channels of the convolutions, stage by stage; a stage ends in pooling.
STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))

#: The layers of VGG_ILSVRC_16_layers.caffemodel.
NAMES = tuple(f"conv{stage}_{i}" for stage, outputs in enumerate(STAGES, 1) for i, _ in enumerate(outputs, 1))

_OUTPUTS = tuple(chain.from_iterable(STAGES))
#: (outputs, inputs, 3, 3) of each.
SHAPES = tuple((outputs, inputs, 3, 3) for outputs, inputs in zip(_OUTPUTS, (3, *_OUTPUTS), strict=False))


def torchvision_indices(batch_norm: bool) -> tuple[int, ...]:
    """Where the convolutions stand in the ``features`` of vgg16, or of vgg16_bn, whose norms stand one further."""
    indices = []
    at = 0
    for outputs in STAGES:
        for _ in outputs:
            indices.append(at)
            at += 3 if batch_norm else 2  # convolution, normalisation, ReLU
        at += 1  # pooling
    return tuple(indices)
