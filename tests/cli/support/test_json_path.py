"""Paths into arguments: the values they find, comparisons, and invalid paths."""

from __future__ import annotations

from typing import Any

import pytest

from lightbus.cli.support.json_path import find, parse_path, parse_search

VALUE = {
    "address": {"city": "London", "zip": "12345", "a name": 1},
    "items": [{"price": 3}, {"price": 9.5, "paid": True}],
    "note": None,
}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("address.city", ["London"]),
        ("$.address.city", ["London"]),
        ("address['a name']", [1]),
        ("items[0].price", [3]),
        ("items[-1].price", [9.5]),
        ("items[*].price", [3, 9.5]),
        ("items.*.price", [3, 9.5]),
        ("..price", [3, 9.5]),
        ("items..paid", [True]),
        ("address.*", ["London", "12345", 1]),
        ("note", [None]),
        ("items[2]", []),
        ("address.street", []),
        ("address[0]", []),
        ("note.any", []),
    ],
)
def test_path_finds_all_values(path: str, found: list[Any]) -> None:
    """A path leads to all existing values."""
    assert [*find(VALUE, parse_path(path))] == found


@pytest.mark.parametrize(
    ("search", "matches"),
    [
        ("address.city=London", True),
        ("address.city==London", True),
        (f"address.city={'[' * 100_000}", False),
        ("address.city = London", True),
        ("address.city!=London", False),
        ("address.zip=12345", True),  # a text that looks like a number
        ("items[0].price=3", True),
        ("items[0].price=3.0", True),
        ("items[0].price<3", False),
        ("items[0].price<=3", True),
        ("items[*].price>=9.5", True),
        ("items[*].price>9.5", False),
        ("items[1].paid=true", True),
        ("items[1].paid=1", False),
        ("items[1].paid!=false", True),
        ("items[1].paid<2", False),
        ("note=null", True),
        ("note=", False),
        ("address.city>3", True),  # texts are compared as texts
        ("address.city<3", False),
        ("items[0].price<London", False),  # a number is neither less nor greater than a text
        ("address.city", True),
        ("address.street", False),
    ],
)
def test_search_compares_text_and_json_values(search: str, matches: bool) -> None:
    """A string is compared with the text, any other value with the text parsed as JSON."""
    assert parse_search(search).matches(VALUE) is matches


@pytest.mark.parametrize("text", ["", "$", "=3", "a.", "a[", "a[x]", "a..", "a]b"])
def test_invalid_path_is_refused(text: str) -> None:
    """The error has the invalid path."""
    with pytest.raises(ValueError, match="is not a path"):
        parse_search(text)
