"""Where nets run."""

import logging

import pytest
import torch

from caffe_compat.device import warn_of_slow_half


@pytest.mark.parametrize(
    ("precision", "device", "instructions", "warned"),
    [
        ("bf16", "cpu", "AVX2", True),
        ("fp16", "cpu", "DEFAULT", True),
        ("bf16", "cpu", "AVX512", False),
        ("bf16", "cuda", "AVX2", False),
        ("fp32", "cpu", "AVX2", False),
    ],
)
def test_half_precision_without_instructions_for_it(monkeypatch, caplog, precision, device, instructions, warned):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: instructions)
    with caplog.at_level(logging.WARNING):
        warn_of_slow_half(precision, device)
    assert bool(caplog.records) == warned
    if warned:
        assert f"precision {precision}: this processor ({instructions})" in caplog.text
