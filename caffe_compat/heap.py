"""What the C library does with memory that is freed: it can keep it for what comes next, or give it back.

Memory that comes from the system is cleared page by page when it is first touched. By default glibc maps every block
above 32 MiB anew, and SegNet's planes of 44 MB are cleared over and over: a tenth to a fifth of a training step.
"""

from __future__ import annotations

import ctypes
import gc
import sys

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # glibc's M_TRIM_THRESHOLD and M_MMAP_MAX


def keep_freed() -> None:
    """Let the process keep what it frees from now on, up to its peak, where the C library is glibc; elsewhere nothing.

    A block is found in the heap rather than mapped, and the heap is never cut. ``give_back`` still empties it.
    glibc 2.36 was seen to take up to six blocks of a size anew before it finds one again, and none after that.
    """
    adjust = _function("mallopt")
    if adjust is not None:
        adjust(_TRIM_THRESHOLD, -1)
        adjust(_MMAP_MAX, 0)


def give_back(collect: bool = False) -> None:
    """Give freed memory back to the system, where the C library is glibc; elsewhere nothing.

    ``collect`` frees what only refers to itself first, such as a net that nobody has any more.
    """
    if collect:
        gc.collect()
    trim = _function("malloc_trim")
    if trim is not None:
        trim(0)


def _function(name: str) -> ctypes._NamedFuncPointer | None:
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
