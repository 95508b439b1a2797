"""Tests of lightbus.web.heads: how large the head of a request was, and what it says of the body."""

from __future__ import annotations

import pytest

from lightbus.web.heads import head_size, is_length_ambiguous, is_length_beyond, target_size


def test_size_counts_path_query_and_headers() -> None:
    """Path, query and headers count, as they are in the request."""
    scope = {"raw_path": b"/a%20b", "query_string": b"n=1", "headers": [(b"host", b"x"), (b"a", b"")]}
    assert target_size(scope) == len("/a%20b") + len("n=1")
    assert head_size(scope) == target_size(scope) + len("host: x\r\n") + len("a: \r\n")


@pytest.mark.parametrize(
    ("length", "beyond"),
    [("0", False), ("9", False), ("10", True), ("-1", True), ("", True), ("\u0663", True), ("1" * 5000, True)],
)
def test_length_of_the_body_is_limited(length: str, beyond: bool) -> None:
    """What is no number, or one of thousands of digits, is beyond any limit."""
    assert is_length_beyond({"content-length": length}, 9) is beyond


def test_a_request_without_a_length() -> None:
    """It has no body, or one in chunks, which is counted as it is read."""
    assert not is_length_beyond({}, 9)


def test_a_length_is_given_once() -> None:
    """A proxy that goes by the other one takes the rest of the body for the next request."""
    both = {"content-length": "3", "transfer-encoding": "chunked"}
    assert is_length_ambiguous(both)
    assert not any(is_length_ambiguous({name: value}) for name, value in both.items())
