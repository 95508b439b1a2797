"""The size of the head of a request, and its limits."""

from __future__ import annotations

from starlette.types import Scope

__all__ = ["MAX_HEAD", "MAX_TARGET", "head_size", "target_size"]

MAX_HEAD = 32 * 1024
"""The most bytes of a request's head."""

MAX_TARGET = 4096
"""The most bytes of the path and the query of a request."""


def head_size(scope: Scope) -> int:
    """
    Return the bytes of a request's head, without the fixed parts of the request line.

    The server's parser limits only a head that arrives in several pieces: one that arrives in one piece it accepts.
    """
    return target_size(scope) + sum(
        len(name) + len(b": ") + len(value) + len(b"\r\n") for name, value in scope["headers"]
    )


def target_size(scope: Scope) -> int:
    """Return the bytes of the path and the query of a request."""
    return len(scope["raw_path"]) + len(scope["query_string"])
