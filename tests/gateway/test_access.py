"""Tests of lightbus.gateway.access: access rules."""

from __future__ import annotations

import pytest

from lightbus import InvalidConfiguration
from lightbus.gateway.access import Permission, Rule, Rules


@pytest.mark.parametrize(
    ("pattern", "permission", "name", "allowed"),
    [
        ("shop.price", Permission.CALL, "shop.price", True),
        ("shop.price", Permission.CALL, "shop.prices", False),
        ("shop.price", Permission.LISTEN, "shop.price", True),
        ("call:shop.price", Permission.CALL, "shop.price", True),
        ("call:shop.price", Permission.FIRE, "shop.price", False),
        ("listen:shop.*", Permission.LISTEN, "shop.*", True),
        ("listen:shop.ordered", Permission.LISTEN, "shop.*", False),
        ("listen:shop.?", Permission.LISTEN, "shop.*", False),
        ("listen:shop.[*]", Permission.LISTEN, "shop.*", False),
        ("listen:shop.?*", Permission.LISTEN, "shop.*", False),
        ("listen:shop.**", Permission.LISTEN, "shop.*", True),
        ("shop.*", Permission.CALL, "shop.price", True),
        ("shop.*", Permission.CALL, "shop.other.do", False),
        ("shop.*.*", Permission.CALL, "shop.other.do", True),
        ("sh?p.pri*", Permission.CALL, "shop.price", True),
        ("*", Permission.CALL, "shop.other.do", True),
        ("*", Permission.CALL, "internal.peer.info", False),
        ("internal.*", Permission.CALL, "internal.peer", False),
        ("internal.peer.info", Permission.CALL, "internal.peer.info", False),
        ("SHOP.price", Permission.CALL, "shop.price", False),
    ],
)
def test_rules_allow_matching_members(pattern: str, permission: Permission, name: str, allowed: bool) -> None:
    """API and member may have wildcards; internal APIs are never allowed."""
    api, _, member = name.rpartition(".")
    assert Rules.read([pattern]).allow(permission, api, member) is allowed


def test_nothing_is_allowed_by_no_rule() -> None:
    """That is the beginning."""
    assert not Rules.read([])
    assert not Rules.read([]).allow(Permission.CALL, "shop", "price")
    assert not Rules.read([]).allow_some(Permission.CALL, "shop")


def test_rule_allows_some_member_of_an_api() -> None:
    """It is checked while the members are not known yet."""
    rules = Rules.read(["listen:shop.ordered", "auth.*"])
    assert rules.allow_some(Permission.LISTEN, "shop")
    assert not rules.allow_some(Permission.CALL, "shop")
    assert rules.allow_some(Permission.CALL, "auth")
    assert not Rules.read(["*"]).allow_some(Permission.CALL, "internal.events")


@pytest.mark.parametrize("text", ["", "shop", "shop.", ".price", "shop..price", "read:shop.price", "shop price", "ä.b"])
def test_invalid_rule_is_refused_with_the_form(text: str) -> None:
    """Is refused with how one is written."""
    with pytest.raises(InvalidConfiguration, match=r"auth\.check_password"):
        Rule.read(text)


def test_rules_that_open_nothing() -> None:
    """Are named, with what may have been meant; patterns that match something are not."""
    members = {"auth": ["check_password", "user_registered"], "shop.orders": ["place"]}
    rules = Rules.read(["auth.*", "call:*.place", "auht.*", "auth.chek_password", "nothing.at_all"])
    assert rules.without_effect(members) == [
        "No peer serves auht.* now: the rule allows nothing yet. Did you mean 'auth'?",
        "No peer serves auth.chek_password now: the rule allows nothing yet. Did you mean 'auth.check_password'?",
        "No peer serves nothing.at_all now: the rule allows nothing yet.",
    ]
    assert Rules.read(["auth.*"]).without_effect({}) == ["No peer serves auth.* now: the rule allows nothing yet."]
