"""What the scales of SegNet's BN layers tell: whether statistics were merged into them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from prototxt.weights import LayerWeights

#: How far apart the layers' scales are, and in how many layers, to tell statistics from a training.
_TOGETHER, _APART, _ENOUGH = 2, 4, 3


def scales_are_merged(layers: Sequence[LayerWeights]) -> bool | None:
    """Whether BN layers' scales are those of merged statistics; None where that cannot be told.

    A training moves them together, from 1 on; divided by the deviations of their layers they are far apart (in the
    recorded SegNet-Basic the layers' medians are within a factor 1.1 before and 37 after).
    """
    medians = [float(np.median(np.abs(layer.blobs[0].data))) for layer in layers if layer.blobs and layer.blobs[0]]
    if len(medians) < _ENOUGH or not min(medians) > 0:
        return None
    spread = max(medians) / min(medians)
    return True if spread >= _APART else False if spread <= _TOGETHER else None
