"""Values as Python writes them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from caffe_compat.shapes import Shape


def number(value: float) -> str:
    """The shortest text that is the same float32: the precision in which a net computes."""
    return repr(float(str(np.float32(value))))


def exact(value: float) -> str:
    """All digits, for what torch does not round to float32 first: exponents, probabilities."""
    return repr(float(value))


def per_axis(values: Sequence[int]) -> str:
    """One number where all are the same, as torch takes it, else a tuple."""
    return str(values[0]) if len(set(values)) == 1 else repr(tuple(values))


def arguments(*given: object, **named: object) -> str:
    """Arguments of a call; named ones that are None are left out."""
    return ", ".join([*map(str, given), *(f"{name}={value}" for name, value in named.items() if value is not None)])


def quoted(text: str) -> str:
    """A string with double quotes, as ruff has it, but where that takes more backslashes."""
    plain = repr(text)
    if plain.startswith("'") and '"' not in text:
        return f'"{plain[1:-1]}"'
    return plain


def shape_text(shape: Shape, batch: int | None, full: bool = False) -> str:
    """``64×360×480`` of one item, or in ``full`` ``(N, 64, 360, 480)``; N stands for the number of items."""
    sizes = ["N" if i == 0 and size == batch else str(size) for i, size in enumerate(shape)]
    if full:
        return f"({', '.join(sizes)}{',' * (len(sizes) == 1)})"
    return "×".join(sizes[1:] if sizes[:1] == ["N"] and len(sizes) > 1 else sizes) or "a single value"


def plain(text: str) -> str:
    """A text that may stand in a docstring."""
    return text.replace("\\", "/").replace('"""', "'''")
