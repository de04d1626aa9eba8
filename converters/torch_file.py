"""Files of ``torch.save``, of unknown origin: nothing in them is executed, and memory stays within their own size.

``weights_only=True`` alone would still unpack a small archive into gigabytes, and build a bytearray of any size.
"""

from __future__ import annotations

import mmap
import os
import pickletools
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from prototxt.errors import FormatError, MissingFileError
from prototxt.files import map_file
from prototxt.recognise import explain
from prototxt.wire import Buffer, walk

#: What texts, numbers and dense tensors are made with.
_HARMLESS = re.compile(
    r"collections OrderedDict|torch\._utils _rebuild_(tensor|tensor_v2|parameter)|torch\.nn\.parameter Parameter"
    r"|torch (\w+Storage|Size|device|float16|bfloat16|float32|float64|int\d+|uint8|bool)|torch\.storage \w+Storage"
    r"|torch\.serialization _get_layout"
)
_ARCHIVE = b"PK\x03\x04"
_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""What a file begins with that torch wrote before version 1.6: its magic number, pickled."""
_LEGACY_PICKLES = 5
"""The magic number, the version, the machine, the content, and the names of the storages, whose values follow."""


def read_torch_file(path: str | os.PathLike[str], expected: str) -> Any:
    """What ``torch.save`` wrote, its tensors on the CPU.

    Args:
        path: the file.
        expected: what it should be, for messages.

    Raises:
        MissingFileError: it is not there. FormatError: it is something else, or damaged, or needs code to be run.
    """
    if not Path(path).is_file():
        raise MissingFileError(f"{path}: there is no such file; expected {expected}")
    buffer = map_file(path)
    if bytes(buffer[: len(_ARCHIVE)]) == _ARCHIVE:
        _check_archive(path, expected)
    elif bytes(buffer[: len(_LEGACY)]) == _LEGACY:
        _check_legacy(buffer, path, expected)
    else:
        raise FormatError(f"{path}: {explain(buffer, *walk(buffer), expected)}")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can raise anything
        told = (str(error) or type(error).__name__).splitlines()[0]
        raise FormatError(f"{path}: torch cannot read it ({told}); expected {expected}") from error


def is_torch_file(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins as torch.save's do. Raises MissingFileError."""
    head = bytes(map_file(path)[: len(_LEGACY)])
    return head == _LEGACY or head.startswith(_ARCHIVE)


def _check_archive(path: str | os.PathLike[str], expected: str) -> None:
    """Raise FormatError for an archive that ``torch.save`` does not write."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            names = [entry.filename for entry in entries]
            unpacked = sum(entry.file_size for entry in entries)
            packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
            if packed or unpacked > os.path.getsize(path) or len(set(names)) < len(names):
                raise FormatError(
                    f"{path}: a zip archive whose contents claim {unpacked:,} bytes, {os.path.getsize(path):,} are "
                    f"there; torch writes them unpacked, each once; expected {expected}"
                )
            pickles = [name for name in names if name.endswith(".pkl")]
            if not pickles:
                raise FormatError(f"{path}: a zip archive, but no torch file; expected {expected}")
            strange = sorted({what for name in pickles for what in _called(archive.read(name))})
    except (zipfile.BadZipFile, ValueError, KeyError, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(f"{path}: a damaged archive ({error}); expected {expected}") from error
    _refuse(strange, path, expected)


def _check_legacy(buffer: Buffer, path: str | os.PathLike[str], expected: str) -> None:
    """Raise FormatError for calls in the pickles that follow one another before the values."""
    file = buffer.obj  # the mapping, which never reads beyond its end, whatever length a pickle claims
    try:
        strange = sorted({what for _ in range(_LEGACY_PICKLES) for what in _called(file)})
    except (ValueError, IndexError, OverflowError) as error:  # how pickletools says that they are damaged
        raise FormatError(f"{path}: a damaged pickle ({error}); expected {expected}") from error
    _refuse(strange, path, expected)


def _refuse(strange: Sequence[str], path: str | os.PathLike[str], expected: str) -> None:
    """Raise FormatError if there are calls."""
    if strange:
        raise FormatError(
            f"{path}: loading it would call {', '.join(strange)}; nothing was run. Expected {expected}: tensors, "
            "numbers and texts alone (of a whole pickled model, save its state_dict())"
        )


def _called(pickled: bytes | mmap.mmap) -> list[str]:
    """The names in a pickle that neither texts, numbers nor dense tensors need."""
    return [
        str(argument).replace(" ", ".")
        for opcode, argument, _ in pickletools.genops(pickled)
        if opcode.name in ("GLOBAL", "STACK_GLOBAL", "INST") and not _HARMLESS.fullmatch(str(argument))
    ]
