"""Lines of source as ruff's formatter lays them out, up to 120 characters wide."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Sequence

WIDTH = 120


def statement(indent: int, start: str, expression: str, comment: str = "") -> list[str]:
    """``start expression  # comment``; the comment stands above where the line has no room for it."""
    margin = " " * indent
    line = f"{margin}{start}{expression}"
    remark = f"  # {comment}" if comment else ""
    if len(line + remark) <= WIDTH:
        return [line + remark]
    above = [f"{margin}# {comment}"] if comment else []
    return [*above, *_broken(margin, start, expression, "")]


def signature(indent: int, start: str, arguments: Sequence[str], end: str) -> list[str]:
    """``start(arguments)end`` of a function, broken where it is too long."""
    return _bracketed(" " * indent, f"{start}(", arguments, f"){end}", _as_it_is)


def mapping(indent: int, start: str, rows: Sequence[str]) -> list[str]:
    """A dictionary, a row on each line where they do not fit into one."""
    return _bracketed(" " * indent, f"{start}{{", rows, "}", _as_it_is, is_display=True)


def _broken(margin: str, start: str, expression: str, end: str) -> list[str]:
    """An expression that is too long for its line, broken at its outermost bracket; a sum stays as it is."""
    line = f"{margin}{start}{expression}{end}"
    if len(line) <= WIDTH:
        return [line]
    tree = ast.parse(expression, mode="eval").body
    if isinstance(tree, ast.Call):
        parts = [*tree.args, *tree.keywords]
        opening = f"{start}{ast.get_source_segment(expression, tree.func)}("
        closing = ")"
    elif isinstance(tree, ast.List):
        parts, opening, closing = list(tree.elts), f"{start}[", "]"
    else:
        return [line]
    texts = [ast.get_source_segment(expression, part) for part in parts]
    is_generator = len(parts) == 1 and isinstance(parts[0], ast.GeneratorExp)
    if not texts or is_generator:
        return [line]
    return _bracketed(margin, opening, texts, f"{closing}{end}", _argument, is_display=isinstance(tree, ast.List))


def _bracketed(
    margin: str,
    start: str,
    parts: Sequence[str],
    end: str,
    row: Callable[[str, str], list[str]],
    is_display: bool = False,
) -> list[str]:
    """Parts in brackets: on one line, arguments on one line of their own, or each on its own, as ``row`` has it."""
    inside = ", ".join(parts)
    if len(f"{margin}{start}{inside}{end}") <= WIDTH:
        return [f"{margin}{start}{inside}{end}"]
    deeper = margin + " " * 4
    if not is_display and len(deeper + inside) <= WIDTH:
        return [margin + start, deeper + inside, margin + end]
    return [margin + start, *(line for part in parts for line in row(deeper, part)), margin + end]


def _as_it_is(margin: str, part: str) -> list[str]:
    return [f"{margin}{part},"]


def _argument(margin: str, part: str) -> list[str]:
    name, equals, value = re.fullmatch(r"(?:(\w+)(=)(?!=))?(.*)", part).groups("")
    return _broken(margin, name + equals, value, ",")
