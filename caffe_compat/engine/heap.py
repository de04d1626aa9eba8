"""The C library's heap, which keeps what was freed."""

from __future__ import annotations

import ctypes
import gc
import sys


def give_back(collect: bool = False) -> None:
    """Give freed memory back to the system, where the C library is glibc; elsewhere nothing.

    ``collect`` frees what only refers to itself first, such as a net that nobody has any more.
    """
    if collect:
        gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
