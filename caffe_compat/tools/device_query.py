"""Show what CUDA says of the GPUs."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping

import torch

from caffe_compat.errors import NetError
from caffe_compat.tools.arguments import gpus

log = logging.getLogger(__name__)

#: Caffe's words → the names of torch's properties. Torch does not know all that Caffe asks for, older ones less.
_PROPERTIES: Mapping[str, str] = {
    "Major revision number": "major",
    "Minor revision number": "minor",
    "Name": "name",
    "Total global memory": "total_memory",
    "Total shared memory per block": "shared_memory_per_block",
    "Registers per multiprocessor": "regs_per_multiprocessor",
    "Warp size": "warp_size",
    "Maximum threads per block": "max_threads_per_block",
    "Threads per multiprocessor": "max_threads_per_multi_processor",
    "Clock rate": "clock_rate",
    "Number of multiprocessors": "multi_processor_count",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which ones."""
    parser.add_argument("--gpu", type=gpus, metavar="N", help="0, 0,1 or all (default: all)")


def run(args: argparse.Namespace) -> int:
    """Query."""
    there = torch.cuda.device_count()
    if not there:
        built = f"it was built for CUDA {torch.version.cuda}" if torch.version.cuda else "it was built without CUDA"
        log.info("torch %s sees no CUDA device (%s); everything runs on the CPU", torch.__version__, built)
    asked = range(there) if args.gpu is None else args.gpu
    if missing := [number for number in asked if number >= there]:
        raise NetError(f"GPU {missing[0]} does not exist; expected " + (f"0 to {there - 1}" if there else "none"))
    for number in asked:
        properties = torch.cuda.get_device_properties(number)
        values = {words: getattr(properties, name, None) for words, name in _PROPERTIES.items()}
        for words, value in {"Device id": number, **values}.items():
            if value is not None:
                log.info("%-31s%s", words + ":", value)
    return 0
