"""Pictures as photographs are, in range, spectrum and colours."""

import numpy as np
import pytest

from converters.textures import textures


@pytest.mark.parametrize("shape", [(3, 12, 12), (1, 360, 480), (3, 7, 900)])
def test_textures(shape):
    made, soft = textures(*shape), textures(*shape, blur=3.0)
    assert made.shape[1:] == (*shape[1:], shape[0]) and made.shape[0] * made[0, ..., 0].size >= 256 * 256
    assert np.array_equal(made, textures(*shape))
    assert 50 < made.std() < 62 and 50 < soft.std() < 62 and 105 < made.mean() < 125
    steps = [np.abs(np.diff(of.astype(float), axis=2)).mean() for of in (made, soft)]
    assert 5 < steps[0] < 30 and steps[1] < steps[0] / 3
    if shape[0] == 3:
        assert 0.9 < np.corrcoef(made.reshape(-1, 3).T)[0, 2] < 0.98
