"""The words, numbers, strings and symbols of protobuf's text format, and where they stand."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple

_TOKEN = re.compile(
    r"""(?P<space>[\s]+|\#[^\n]*)
      | (?P<number>(?:0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?[fF]?)(?![\w.]))
      | (?P<word>[A-Za-z_][A-Za-z_0-9]*)
      | (?P<string>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')
      | (?P<symbol>[{}<>\[\]:;,\-])
      | (?P<other>[\w.]+|.)""",
    re.VERBOSE | re.DOTALL,
)
#: Opening symbol → the one that closes it.
CLOSING = {"{": "}", "<": ">", "[": "]"}


class Token(NamedTuple):
    """One token."""

    kind: str
    """``number``, ``word``, ``string``, ``symbol``, ``other`` (in no valid text) or ``end``."""
    text: str
    offset: int

    @property
    def found(self) -> str:
        """What it is, for messages."""
        if self.kind == "end":
            return "the end of the file"
        if self.text in ('"', "'"):
            return "a string that does not end on its line"
        return repr(self.text) if self.kind != "string" else self.text


class Tokens:
    """The tokens of a text one by one; ``now`` is the next one to be taken."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._line_starts = [0, *(match.end() for match in re.finditer("\n", text))]
        self._rest: Iterator[Token] = self._split()
        self.now = next(self._rest)

    def _split(self) -> Iterator[Token]:
        for match in _TOKEN.finditer(self._text):
            if match.lastgroup != "space":
                yield Token(match.lastgroup or "other", match.group(), match.start())
        while True:
            yield Token("end", "", len(self._text))

    def take(self) -> Token:
        """The next token, which is then behind us."""
        token, self.now = self.now, next(self._rest)
        return token

    def give_back(self, token: Token) -> None:
        """Undo the last ``take``."""
        self._rest = chain([self.now], self._rest)
        self.now = token

    def accept(self, *symbols: str) -> str:
        """Take the next token if it is one of these symbols, and say which; else an empty string."""
        return self.take().text if self.now.kind == "symbol" and self.now.text in symbols else ""

    def sees(self, *symbols: str) -> bool:
        """Whether the next token is one of these symbols."""
        return self.now.kind == "symbol" and self.now.text in symbols

    def place(self, offset: int) -> tuple[int, int]:
        """Line and column, both from 1."""
        line = bisect_right(self._line_starts, offset)
        return line, offset - self._line_starts[line - 1] + 1

    def skip_line(self) -> None:
        """Go on with the next line, or before it at a closing symbol; what stands in brackets is passed over whole."""
        line = self.place(self.now.offset)[0]
        while self.now.kind != "end" and not self.sees("}", ">", "]") and self.place(self.now.offset)[0] == line:
            if self.sees(*CLOSING):
                self.skip_brackets()
            else:
                self.take()

    def skip_brackets(self) -> bool:
        """Skip from an opening symbol to the one that closes it; False if the text ends before."""
        depth = 0
        while self.now.kind != "end":
            token = self.take()
            if token.kind == "symbol":
                depth += (token.text in CLOSING) - (token.text in CLOSING.values())
            if depth <= 0:
                return True
        return False
