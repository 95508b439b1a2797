"""How large the head of a request may be."""

from __future__ import annotations

from starlette.types import Scope

__all__ = ["MAX_HEAD", "MAX_TARGET", "head_size", "target_size"]

MAX_HEAD = 32 * 1024
"""Bytes of a request's head."""

MAX_TARGET = 4096
"""Bytes of the path and the query of a request."""


def head_size(scope: Scope) -> int:
    """
    Return how many bytes the head of a request had, but for what each has.

    The server's parser bounds only what it waits for the rest of: a head that comes in one piece it takes as it is.
    """
    return target_size(scope) + sum(
        len(name) + len(b": ") + len(value) + len(b"\r\n") for name, value in scope["headers"]
    )


def target_size(scope: Scope) -> int:
    """Return how many bytes the path and the query of a request have."""
    return len(scope["raw_path"]) + len(scope["query_string"])
