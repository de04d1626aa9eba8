"""Where nets run."""

import logging

import pytest
import torch

from caffe_compat import device
from caffe_compat.device import warn_of_slow


@pytest.mark.parametrize(
    ("precision", "device", "instructions", "warned"),
    [
        ("bf16", "cpu", "AVX2", True),
        ("fp16", "cpu", "NO AVX", True),
        ("bf16", "cpu", "AVX512", False),
        ("fp16", "cpu", "AVX512", True),
        ("bf16", "cuda", "AVX2", False),
        ("fp32", "cpu", "AVX2", False),
    ],
)
def test_half_precision_without_instructions_for_it(monkeypatch, caplog, precision, device, instructions, warned):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: instructions)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_fp16_supported", lambda: False)
    with caplog.at_level(logging.WARNING):
        warn_of_slow(precision, device)
    assert bool(caplog.records) == warned
    if warned:
        assert f"precision {precision}: this processor ({instructions})" in caplog.text


def test_channels_last_where_it_costs_time(monkeypatch, caplog):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    warn_of_slow("fp32", "cuda", training_channels_last=True)
    assert not caplog.records
    warn_of_slow("fp32", "cpu", training_channels_last=True)
    assert "channels_last: this processor (AVX2)" in caplog.text


def test_gpu_computes_in_whole_float32(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    monkeypatch.setattr(device, "_mode", None)
    device.set_mode_gpu()
    assert device.chosen_device().type == "cuda"
    assert not torch.backends.cudnn.allow_tf32
