"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch

from caffe_compat.device import is_emulated


def describe(device: str) -> dict[str, str]:
    """Processor, GPU, versions and threads, for people and for JSON."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    told = {"processor": f"{_processor()}, {cores} cores", "threads": str(torch.get_num_threads())}
    emulated = [precision for precision in ("bf16", "fp16") if is_emulated(precision)]
    told["instructions"] = torch.backends.cpu.get_cpu_capability()
    if device == "cpu" and emulated:
        told["instructions"] += f", without any for {' and '.join(emulated)}: emulated, many times slower than fp32"
    if hasattr(os, "getloadavg"):
        told["load before"] = f"{os.getloadavg()[0]:.1f} (processes that wanted a core in the last minute)"
    if device == "cuda":
        told["GPU"] = f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}"
        told["cuDNN"] = f"{torch.backends.cudnn.version()}, autotuning on"
        told["TF32 in convolutions"] = "on" if torch.backends.cudnn.allow_tf32 else "off"
    told["versions"] = f"Python {platform.python_version()}, torch {torch.__version__}"
    return told


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()
