"""Protobuf's text format, as Caffe's C++ reads it, with every mistake of a file reported at its line and column."""

from __future__ import annotations

import os
import re
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple, TypeVar

from google.protobuf import text_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from prototxt.errors import FormatError, nearest
from prototxt.files import map_file
from prototxt.text_values import ScalarError, scalar

M = TypeVar("M", bound=Message)

_TOKEN = re.compile(
    r"""(?P<space>[\s]+|\#[^\n]*)
      | (?P<number>(?:0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?[fF]?)(?![\w.]))
      | (?P<word>[A-Za-z_]\w*)
      | (?P<string>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')
      | (?P<symbol>[{}<>\[\]:;,\-])
      | (?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
_CLOSING = {"{": "}", "<": ">", "[": "]"}


class _Token(NamedTuple):
    kind: str
    text: str
    offset: int


class _Stop(Exception):
    """The text cannot be followed any further."""


class Positions(dict[tuple[str | int, ...], tuple[int, int]]):
    """Where things stand in a text: path → (line, column), both from 1.

    A path is made of field names, each repeated one followed by its index: ``("layer", 3, "top", 0)``.
    """

    def line(self, *path: str | int) -> int | None:
        """The line of a field, or None where it is not in the text."""
        place = self.get(path)
        return place and place[0]


def read(path: str | os.PathLike[str], message_type: type[M]) -> tuple[M, Positions]:
    """Read a file.

    Raises:
        MissingFileError: it is not there.
        FormatError: it is no text, or not of this message; with every mistake in it.
    """
    data = bytes(map_file(path))
    try:
        text = data.decode("utf-8-sig")
        binary = "\0" in text
    except UnicodeDecodeError:
        binary = True
    if binary:
        raise FormatError(
            f"{path}: a binary file; expected a prototxt, which is text. Weights (.caffemodel) go where weights "
            "are asked for, as in Net(prototxt, weights, phase)"
        )
    return parse(text, message_type, str(path))


def parse(text: str, message_type: type[M], name: str = "text") -> tuple[M, Positions]:
    """The message that a text holds, and where its parts stand. ``name`` stands for the file in error messages.

    Raises:
        FormatError: with every mistake in it: ``name:line:column: found …; expected …``.
    """
    parser = _Parser(text, name)
    message = message_type()
    parser.run(message)
    if parser.problems:
        raise FormatError([problem for _, problem in sorted(parser.problems)])
    return message, parser.positions


def format(message: Message) -> str:
    """A message as text that ``parse`` reads back, one field a line."""
    return text_format.MessageToString(message, as_utf8=True)


class _Parser:
    def __init__(self, text: str, name: str) -> None:
        self.name = name
        self.text = text
        self.line_starts = [0, *(match.end() for match in re.finditer("\n", text))]
        self.positions = Positions()
        self.problems: list[tuple[int, str]] = []
        self.tokens = self._tokens()
        self.token = next(self.tokens)

    def run(self, message: Message) -> None:
        """Parse all of the text into a message."""
        with suppress(_Stop):
            self._fields(message, (), "")

    # ---- tokens

    def _tokens(self) -> Iterator[_Token]:
        for match in _TOKEN.finditer(self.text):
            if match.lastgroup != "space":
                yield _Token(match.lastgroup or "other", match.group(), match.start())
        while True:
            yield _Token("end", "", len(self.text))

    def _next(self) -> _Token:
        token, self.token = self.token, next(self.tokens)
        return token

    def _accept(self, *symbols: str) -> str:
        return self._next().text if self.token.kind == "symbol" and self.token.text in symbols else ""

    def _place(self, offset: int) -> tuple[int, int]:
        line = bisect_right(self.line_starts, offset)
        return line, offset - self.line_starts[line - 1] + 1

    def _wrong(self, offset: int, problem: str) -> None:
        line, column = self._place(offset)
        self.problems.append((offset, f"{self.name}:{line}:{column}: {problem}"))

    def _stop(self, expected: str) -> _Stop:
        token = self.token
        if token.kind == "end":
            found = "the end of the file"
        elif token.kind == "other" and token.text in "\"'":
            found = "a string that does not end on its line"
        else:
            found = repr(token.text)
        self._wrong(token.offset, f"found {found}; expected {expected}")
        return _Stop()

    # ---- messages

    def _fields(self, message: Message, path: tuple[str | int, ...], closing: str, opened: int = 0) -> None:
        """The fields up to ``closing`` (empty: to the end)."""
        while True:
            if self.token.kind == "end" and not closing:
                return
            if closing and self._accept(closing):
                return
            if self.token.kind != "word":
                raise self._stop(self._expected(message, path, closing, opened))
            self._field(message, path)
            self._accept(";", ",")

    def _expected(self, message: Message, path: tuple[str | int, ...], closing: str, opened: int) -> str:
        if self.token.kind == "end":
            name = next(part for part in reversed(path) if isinstance(part, str))
            line, column = self._place(opened)
            return f"{closing!r} to close {name!r}, opened at {line}:{column}"
        return f"the name of a field of {message.DESCRIPTOR.name}" + (f", or {closing!r}" if closing else "")

    def _field(self, message: Message, path: tuple[str | int, ...]) -> None:
        name = self._next()
        descriptor: Descriptor = message.DESCRIPTOR
        field = descriptor.fields_by_name.get(name.text)
        if field is None:
            hint = nearest(name.text, descriptor.fields_by_name)
            known = "" if hint or len(descriptor.fields) > 12 else "expected " + ", ".join(descriptor.fields_by_name)
            self._wrong(
                name.offset, f"unknown field {name.text!r} in {descriptor.name}; {hint or known or 'remove it'}"
            )
            self._skip_value()
            return
        path = (*path, field.name)
        if not field.is_repeated and path in self.positions:
            line, column = self.positions[path]
            self._wrong(name.offset, f"{field.name!r} is given twice, first at {line}:{column}; expected it once")
        colon = self._accept(":")
        if field.message_type is None and not colon:
            raise self._stop(f"':' and a value after {field.name!r}")
        if field.is_repeated and self._accept("["):
            while not self._accept("]"):
                self._value(message, field, path, name.offset)
                if not self._accept(",") and self.token.text != "]":
                    raise self._stop(f"',' or ']' in the list of {field.name!r}")
            return
        self._value(message, field, path, name.offset)

    def _value(self, message: Message, field: FieldDescriptor, path: tuple[str | int, ...], offset: int) -> None:
        if field.is_repeated:
            values = getattr(message, field.name)
            path = (*path, len(values))
        self.positions.setdefault(path, self._place(offset))
        if field.message_type is None:
            self._scalar(message, field)
            return
        opened = self.token.offset
        opening = self._accept("{", "<")
        if not opening:
            raise self._stop(f"'{{' to open {field.name!r} ({field.message_type.name})")
        if field.is_repeated:
            child = values.add()
        else:
            child = getattr(message, field.name)
            child.SetInParent()
        self._fields(child, path, _CLOSING[opening], opened)

    def _scalar(self, message: Message, field: FieldDescriptor) -> None:
        start = self.token.offset
        negative = bool(self._accept("-"))
        if self.token.kind not in ("number", "word", "string"):
            raise self._stop(f"a value for {field.name!r}")
        first = self._next()
        texts = [first.text]
        while first.kind == "string" and self.token.kind == "string":  # adjacent strings are one
            texts.append(self._next().text)
        try:
            value = scalar(field, first.kind, texts, negative)
        except ScalarError as error:
            self._wrong(start, str(error))
            return
        if field.is_repeated:
            getattr(message, field.name).append(value)
        else:
            setattr(message, field.name, value)

    def _skip_value(self) -> None:
        """Go on behind the value of a field that nobody knows."""
        colon = self._accept(":")
        opening = self._accept(*_CLOSING)
        if opening:
            expected = [_CLOSING[opening]]
            while expected:
                if self.token.kind == "end":
                    raise self._stop(repr(expected[-1]))
                token = self._next()
                if token.kind == "symbol" and token.text in _CLOSING:
                    expected.append(_CLOSING[token.text])
                elif token.kind == "symbol" and token.text == expected[-1]:
                    expected.pop()
            return
        if not colon:
            raise self._stop("':' or '{' after a field's name")
        self._accept("-")
        kind = self._next().kind
        while kind == "string" and self.token.kind == "string":
            self._next()
