"""Tests of lightbus.web.heads: how large the head of a request was."""

from __future__ import annotations

from lightbus.web.heads import head_size, target_size


def test_size_counts_path_query_and_headers() -> None:
    """Path, query and headers count, as they are in the request."""
    scope = {"raw_path": b"/a%20b", "query_string": b"n=1", "headers": [(b"host", b"x"), (b"a", b"")]}
    assert target_size(scope) == len("/a%20b") + len("n=1")
    assert head_size(scope) == target_size(scope) + len("host: x\r\n") + len("a: \r\n")
