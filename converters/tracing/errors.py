"""The error of a translating function."""

from __future__ import annotations

from prototxt.errors import CaffeError


class CannotSay(CaffeError):
    """One operation that Caffe has no layer for. Who knows the operation's place adds it."""
