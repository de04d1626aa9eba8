"""Places of maxima in one byte each: torch's own pooling and unpooling, at every kind of width."""

import pytest
import torch
import torch.nn.functional as F

from caffe_compat.engine.index_pooling import pool, unpool

# Widths whose lowest byte is 0, 1 or 255 cannot be told from a column in one byte.
SIZES = [(5, 7), (6, 480), (9, 256), (7, 255), (3, 257), (4, 1), (1, 4), (5, 2), (6, 512), (6, 3), (6, 254), (3, 511)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("largest", [3, 1000], ids=["many equal", "few equal"])
def test_as_torch(size, largest):
    torch.manual_seed(0)
    x = torch.randint(largest, (2, 3, *size)).float().contiguous(memory_format=torch.channels_last)
    y, places = pool(x)
    expected, positions = F.max_pool2d(x.contiguous(), 2, 2, ceil_mode=True, return_indices=True)
    assert places.dtype == torch.uint8 and torch.equal(y, expected)
    plane = torch.zeros(2, 3, size[0] * size[1]).scatter_(2, positions.flatten(2), expected.flatten(2))
    assert torch.equal(unpool(y, places, *size).flatten(2), plane)
