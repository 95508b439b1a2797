"""The head of a request: its size with the limits, and the length of the body that it gives."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.types import Scope

__all__ = ["MAX_HEAD", "MAX_TARGET", "head_size", "is_length_ambiguous", "is_length_beyond", "target_size"]

MAX_HEAD = 32 * 1024
"""The most bytes of a request's head."""

MAX_TARGET = 4096
"""The most bytes of the path and the query of a request."""

MAX_DIGITS = 18
"""The most digits of a length that are read: Python refuses numbers of thousands of them."""


def head_size(scope: Scope) -> int:
    """
    Return the bytes of a request's head, without the fixed parts of the request line.

    The server's parser limits only a head that arrives in several pieces: one that arrives in one piece it accepts.
    """
    return target_size(scope) + sum(
        len(name) + len(b": ") + len(value) + len(b"\r\n") for name, value in scope["headers"]
    )


def is_length_ambiguous(headers: Mapping[str, str]) -> bool:
    """Return whether the body's length is given twice: a proxy might go by the one, and the server by the other."""
    return "transfer-encoding" in headers and "content-length" in headers


def is_length_beyond(headers: Mapping[str, str], most: int) -> bool:
    """Return whether the given length of the body is above `most` bytes, or no number."""
    length = headers.get("content-length", "0")
    return not (length.isascii() and length.isdecimal()) or len(length) > MAX_DIGITS or int(length) > most


def target_size(scope: Scope) -> int:
    """Return the bytes of the path and the query of a request."""
    return len(scope["raw_path"]) + len(scope["query_string"])
