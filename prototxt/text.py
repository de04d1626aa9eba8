"""Protobuf's text format, as Caffe's C++ reads it, with every mistake of a file reported at its line and column.

After a mistake the parser goes on where the next field can begin, so that one report names them all.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

from google.protobuf import text_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from prototxt.dialects import REQUIRED
from prototxt.errors import FormatError
from prototxt.files import map_file
from prototxt.text_hints import other_file, other_format, unknown_field
from prototxt.text_tokens import CLOSING, Token, Tokens
from prototxt.text_values import ScalarError, scalar

M = TypeVar("M", bound=Message)


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
    data = map_file(path)
    if what := other_format(data):
        raise FormatError(f"{path}: {what}")
    # Caffe never looks at the encoding: comments may have any, and what is not UTF-8 matters only within a string.
    return parse(bytes(data).decode("utf-8-sig", "surrogateescape"), message_type, str(path))


def parse(text: str, message_type: type[M], name: str = "text") -> tuple[M, Positions]:
    """The message that a text holds, and where its parts stand. ``name`` stands for the file in error messages.

    Raises:
        FormatError: with every mistake in it: ``name:line:column: found …; expected …``.
    """
    message = message_type()
    parser = _Parser(text, name)
    parser.fields(_Open(message))
    if parser.problems:
        if other := other_file(parser.outermost, message.DESCRIPTOR):
            raise FormatError(f"{name}: {other}")
        raise FormatError([problem for _, problem in sorted(parser.problems.items())])
    return message, parser.positions


def format(message: Message) -> str:
    """A message as text that ``parse`` reads back, one field a line."""
    return text_format.MessageToString(message, as_utf8=True)


class _Unclosed(Exception):
    """A message ends without its bracket, as a field begins that only the message at ``depth`` can have."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.depth = depth


@dataclass
class _Open:
    """A message that is being read."""

    message: Message
    path: tuple[str | int, ...] = ()
    closing: str = ""
    """The symbol that ends it; empty for the end of the text."""
    offset: int = 0
    name: str = ""
    """The field that it is a value of."""


class _Parser:
    def __init__(self, text: str, name: str) -> None:
        self.name = name
        self.tokens = Tokens(text)
        self.positions = Positions()
        self.problems: dict[int, str] = {}
        """By offset: of several at one place the first is the cause of the others."""
        self.open: list[_Open] = []
        self.outermost: set[str] = set()
        """The names of fields, known or not, that stand outside of every message."""

    # ---- problems

    def _wrong(self, offset: int, problem: str) -> None:
        self.problems.setdefault(offset, f"{self.name}:{self._place(offset)}: {problem}")

    def _unexpected(self, expected: str) -> None:
        self._wrong(self.tokens.now.offset, f"found {self.tokens.now.found}; expected {expected}")

    def _place(self, offset: int) -> str:
        line, column = self.tokens.place(offset)
        return f"{line}:{column}"

    def _end_of(self, one: _Open) -> str:
        return f"{one.closing!r} to close {one.name!r}, opened at {self._place(one.offset)}"

    # ---- messages

    def fields(self, here: _Open) -> None:
        """The fields of a message, up to what closes it."""
        self.open.append(here)
        depth = len(self.open)
        while not self._closed(here):
            try:
                self._field(here)
            except _Unclosed as unclosed:
                if unclosed.depth != depth:
                    raise
                del self.open[depth:]
            self.tokens.accept(";", ",")
        self.open.pop()
        message = here.message.DESCRIPTOR.name
        if missing := [name for name in REQUIRED.get(message, ()) if not here.message.HasField(name)]:
            names = " and ".join(map(repr, missing))
            self._wrong(here.offset, f"found {message} without {names}; expected it, as Caffe requires it")

    def _closed(self, here: _Open) -> bool:
        """Whether the message ends here; if not, a field's name comes next."""
        while self.tokens.now.kind != "word":
            if self.tokens.now.kind == "end":
                if here.closing:
                    self._unexpected(self._end_of(here))
                return True
            if here.closing and self.tokens.accept(here.closing):
                return True
            name = f"the name of a field of {here.message.DESCRIPTOR.name}"
            self._unexpected(name + (f", or {self._end_of(here)}" if here.closing else ""))
            self.tokens.skip_line()
            stray = self.tokens.accept("}", ">", "]")
            if stray and any(one.closing == stray for one in self.open):  # taken for the one that was meant
                return True
        return False

    def _field(self, here: _Open) -> None:
        name = self.tokens.now
        field = here.message.DESCRIPTOR.fields_by_name.get(name.text)
        if len(self.open) == 1:
            self.outermost.add(name.text)
        if field is None:
            self._unknown_field(here)
            return
        self.tokens.take()
        path = (*here.path, field.name)
        colon = self.tokens.accept(":")
        if not field.is_repeated and path in self.positions:
            first = "{}:{}".format(*self.positions[path])
            self._wrong(name.offset, f"{field.name!r} is given twice, first at {first}; expected it once")
            self._pass_over()
        elif field.message_type is None and not colon:
            self._unexpected(f"':' and a value after {field.name!r}")
            self._pass_over()
        elif field.is_repeated and self.tokens.accept("["):
            self._list(here, field, path)
        else:
            self._value(here, field, path, name.offset)

    def _unknown_field(self, here: _Open) -> None:
        name = self.tokens.now
        for depth, (outer, inner) in enumerate(pairwise(self.open), 1):
            if inner.name == name.text and outer.message.DESCRIPTOR.fields_by_name[inner.name].is_repeated:
                self._unexpected(self._end_of(here))
                raise _Unclosed(depth)
        self.tokens.take()
        around = [one.message.DESCRIPTOR for one in self.open[:-1]]
        message = here.message.DESCRIPTOR
        remedy = unknown_field(name.text, message, around)
        self._wrong(name.offset, f"unknown field {name.text!r} in {message.name}; {remedy}")
        if self.tokens.accept(":") or self.tokens.sees(*CLOSING):
            self._pass_over()
        else:
            self._unexpected(f"':' or '{{' after {name.text!r}")
            self.tokens.skip_line()

    # ---- values

    def _list(self, here: _Open, field: FieldDescriptor, path: tuple[str | int, ...]) -> None:
        if self.tokens.accept("]"):
            return
        self._value(here, field, path, self.tokens.now.offset)
        while not self.tokens.accept("]"):
            if not self.tokens.accept(","):
                self._unexpected(f"',' or ']' in the list of {field.name!r}")
                self.tokens.skip_line()
                self.tokens.accept("]")
                return
            self._value(here, field, path, self.tokens.now.offset)

    def _value(self, here: _Open, field: FieldDescriptor, path: tuple[str | int, ...], offset: int) -> None:
        if field.is_repeated:
            path = (*path, len(getattr(here.message, field.name)))
        self.positions[path] = self.tokens.place(offset)
        if field.message_type is None:
            self._scalar(here.message, field)
            return
        opened = self.tokens.now.offset
        opening = self.tokens.accept("{", "<")
        if not opening:
            self._unexpected(f"'{{' to open {field.name!r} ({field.message_type.name})")
            self._pass_over()
            return
        value = getattr(here.message, field.name)
        if field.is_repeated:
            value = value.add()
        else:
            value.SetInParent()
        self.fields(_Open(value, path, CLOSING[opening], opened, field.name))

    def _scalar(self, message: Message, field: FieldDescriptor) -> None:
        start = self.tokens.now.offset
        negative = bool(self.tokens.accept("-"))
        literal = self._literal()
        if literal is None:
            self._unexpected(f"a value for {field.name!r}")
            self._pass_over()
            return
        try:
            value = scalar(field, literal[0].kind, [part.text for part in literal], negative)
        except ScalarError as error:
            self._wrong(start, str(error))
            return
        if field.is_repeated:
            getattr(message, field.name).append(value)
        else:
            setattr(message, field.name, value)

    def _literal(self) -> list[Token] | None:
        """A number, a word, or adjacent strings, which are one; None if there is none."""
        if self.tokens.now.kind not in ("number", "word", "string"):
            return None
        literal = [self.tokens.take()]
        if literal[0].kind == "word" and self.tokens.sees(":", "{", "<"):  # the next field
            self.tokens.give_back(literal[0])
            return None
        while literal[0].kind == "string" and self.tokens.now.kind == "string":
            literal.append(self.tokens.take())
        return literal

    def _pass_over(self) -> None:
        """Go on behind a value, whatever it is."""
        if self.tokens.sees(*CLOSING):
            if not self.tokens.skip_brackets():
                self._unexpected("the closing brackets")
            return
        self.tokens.accept("-")
        if self._literal() is None and self.tokens.now.kind != "word":
            self.tokens.skip_line()
