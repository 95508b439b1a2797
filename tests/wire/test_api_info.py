"""The description of one API in an announcement."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lightbus.exceptions import InvalidConfiguration
from lightbus.wire.api_info import ApiInfo, compute_digest

AUTH = ApiInfo(
    name="auth",
    procedures=("check_password", "create_user"),
    events=("user_registered", "seen"),
    version=2,
    digest="abc",
    best_effort=("seen",),
)


def test_digest_ignores_order_and_sees_change() -> None:
    """The digest of an API set does not depend on any order, and differs with every change."""
    other = ApiInfo(name="customers")
    reordered = replace(AUTH, procedures=AUTH.procedures[::-1], events=AUTH.events[::-1])
    changes = [
        {"procedures": ("check_password",)},
        {"events": ("seen",)},
        {"version": 3},
        {"internal": True},
        {"digest": "abd"},
        {"best_effort": ()},
    ]

    assert compute_digest((AUTH, other)) == compute_digest((other, reordered))
    assert len({compute_digest((replace(AUTH, **change),)) for change in [{}, *changes]}) == 7


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "a,b"}, "contains a space or a comma"),
        ({"procedures": ("x", "x")}, "more than once among the procedures of auth"),
        ({"events": ("bad\0",)}, "characters that cannot be printed"),
        ({"best_effort": ("unknown",)}, "not all among its events"),
        ({"version": "1"}, "the version of auth"),
        ({"internal": 1}, "the mark 'internal' of auth is 1, no boolean"),
    ],
)
def test_invalid_api_info_is_not_created(fields: dict[str, Any], message: str) -> None:
    """The message names the part."""
    with pytest.raises(InvalidConfiguration) as raised:
        replace(AUTH, **fields)

    assert message in str(raised.value)


def test_keeping_events_is_an_additional_item() -> None:
    """It follows the other items, so that older versions skip it."""
    info = ApiInfo(name="auth", events=("seen",), keeps=True)
    assert ApiInfo.from_wire(info.to_wire()) == info
    assert len(ApiInfo(name="auth").to_wire()) == 7
    assert not ApiInfo.from_wire([*ApiInfo(name="auth").to_wire(), 1]).keeps
