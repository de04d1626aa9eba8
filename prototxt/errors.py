"""The one shape of every error about a user's file: where, what was found, what is expected, what to do.

All problems that can be found together are reported together, so that a file is mended in one go.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

#: How many problems a message tells; what is wrong in more places has one cause, or is no such file at all.
_TOLD = 1000


class CaffeError(ValueError):
    """One or more problems with what the user gave; ``problems`` holds them one by one.

    Each problem is one text that names the place first (``file:line:column`` or the layer), then what was
    found, what is expected and the remedy. ``remedy`` is what mends several of them at once.
    """

    def __init__(self, problems: str | Sequence[str], remedy: str = "") -> None:
        self.problems: tuple[str, ...] = (problems,) if isinstance(problems, str) else tuple(problems)
        if len(self.problems) == 1:
            text = self.problems[0]
        else:
            told = [*self.problems[:_TOLD], *(["..."] if len(self.problems) > _TOLD else [])]
            text = f"{len(self.problems)} problems:\n" + "\n".join(f"  {p}" for p in told)
        super().__init__(text + (f"\n{remedy}" if remedy else ""))


class FormatError(CaffeError):
    """A model file that cannot be read, or a message that cannot be written."""


class MissingFileError(CaffeError, FileNotFoundError, RuntimeError):
    """A file that is not there. pycaffe raises RuntimeError here, Python code expects FileNotFoundError."""


def nearest(word: str, known: Iterable[str], count: int = 3) -> str:
    """The remedy for a misspelt name: ``did you mean 'a' or 'b'?``, or an empty string when none is near."""
    by_folded = {one.casefold(): one for one in known}
    hits = [by_folded[hit] for hit in difflib.get_close_matches(word.casefold(), by_folded, n=count, cutoff=0.6)]
    return f"did you mean {' or '.join(repr(h) for h in hits)}?" if hits else ""
