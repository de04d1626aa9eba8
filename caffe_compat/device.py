"""Where nets run: pycaffe's process-wide mode and device."""

from __future__ import annotations

import logging

import torch

from caffe_compat.errors import NetError

log = logging.getLogger(__name__)

_WITHOUT_AVX_512 = ("NO AVX", "AVX2")  # as torch calls them

_mode: str | None = None
_index = 0


def set_mode_cpu() -> None:
    """Run every net on the CPU."""
    global _mode
    _mode = "cpu"


def set_mode_gpu() -> None:
    """Run every net on the GPU that ``set_device`` chose, with convolutions in whole float32 as Caffe computes them.

    torch's default rounds their inputs to 10 bits (TF32): who prefers that sets ``torch.backends.cudnn.allow_tf32``
    afterwards.

    Raises:
        NetError: torch sees no GPU.
    """
    global _mode
    if not torch.cuda.is_available():
        raise NetError(
            "set_mode_gpu: torch sees no CUDA device here; use set_mode_cpu(), or install a CUDA build of torch"
        )
    _mode = "gpu"
    torch.backends.cudnn.allow_tf32 = False


def set_device(index: int) -> None:
    """Choose the GPU for ``set_mode_gpu``, counted from 0.

    Raises:
        NetError: there is no such device.
    """
    global _index
    if torch.cuda.is_available() and not 0 <= index < torch.cuda.device_count():
        raise NetError(f"set_device({index}): expected 0 to {torch.cuda.device_count() - 1}")
    _index = index


def chosen_device() -> torch.device | None:
    """The device that was asked for, or None when nobody asked: then a net stays where it is."""
    if _mode is None:
        return None
    return torch.device("cpu") if _mode == "cpu" else torch.device("cuda", _index)


def is_emulated(precision: str) -> bool:
    """Whether this processor has no instructions for a precision (fp32, bf16, fp16): it takes much longer then.

    AVX-512 makes bf16 worth while, whether or not it has instructions for it; fp16 takes some of its own.
    """
    if precision == "fp32":
        return False
    instructions = torch.backends.cpu.get_cpu_capability()
    has_fp16 = getattr(torch.ops.mkldnn, "_is_mkldnn_fp16_supported", lambda: True)
    return instructions in _WITHOUT_AVX_512 or (precision == "fp16" and instructions == "AVX512" and not has_fp16())


def warn_of_slow(precision: str, device: str, training_channels_last: bool = False) -> None:
    """Log a warning where a CPU is asked for what saves time elsewhere.

    Half precision is emulated without AVX-512, at a seventh to a twentieth of float32's speed. The gradients of weights
    take oneDNN three times as long there when channels lie innermost.
    """
    if device != "cpu":
        return
    instructions = torch.backends.cpu.get_cpu_capability()
    if is_emulated(precision):
        told = f"this processor ({instructions}) has no instructions for it and emulates it"
        log.warning("precision %s: %s, many times slower than fp32; expected fp32", precision, told)
    elif training_channels_last and instructions in _WITHOUT_AVX_512:
        told = f"this processor ({instructions}) has no AVX-512, so that it takes more time than the default layout"
        log.warning("channels_last: %s, not less", told)


def set_random_seed(seed: int) -> None:
    """Seed fillers, dropout and the order of shuffled data (Caffe's own streams cannot be reproduced)."""
    torch.manual_seed(seed)
