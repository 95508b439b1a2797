"""Tests of lightbus.gateway.access: what a rule allows."""

from __future__ import annotations

import pytest

from lightbus import InvalidConfiguration
from lightbus.gateway.access import Action, Rule, Rules


@pytest.mark.parametrize(
    ("pattern", "action", "name", "allowed"),
    [
        ("shop.price", Action.CALL, "shop.price", True),
        ("shop.price", Action.CALL, "shop.prices", False),
        ("shop.price", Action.LISTEN, "shop.price", True),
        ("call:shop.price", Action.CALL, "shop.price", True),
        ("call:shop.price", Action.FIRE, "shop.price", False),
        ("listen:shop.*", Action.LISTEN, "shop.*", True),
        ("listen:shop.ordered", Action.LISTEN, "shop.*", False),
        ("shop.*", Action.CALL, "shop.price", True),
        ("shop.*", Action.CALL, "shop.other.do", False),
        ("shop.*.*", Action.CALL, "shop.other.do", True),
        ("sh?p.pri*", Action.CALL, "shop.price", True),
        ("*", Action.CALL, "shop.other.do", True),
        ("*", Action.CALL, "internal.peer.info", False),
        ("internal.*", Action.CALL, "internal.peer", False),
        ("internal.peer.info", Action.CALL, "internal.peer.info", False),
        ("SHOP.price", Action.CALL, "shop.price", False),
    ],
)
def test_what_is_allowed(pattern: str, action: Action, name: str, allowed: bool) -> None:
    """An API and its member, each with wildcards of its own; nothing internal, whatever is written."""
    api, _, member = name.rpartition(".")
    assert Rules.read([pattern]).allow(action, api, member) is allowed


def test_nothing_is_allowed_by_no_rule() -> None:
    """That is the beginning."""
    assert not Rules.read([])
    assert not Rules.read([]).allow(Action.CALL, "shop", "price")
    assert not Rules.read([]).allow_some(Action.CALL, "shop")


def test_some_of_an_api() -> None:
    """Which is what is asked of before all of it is known."""
    rules = Rules.read(["listen:shop.ordered", "auth.*"])
    assert rules.allow_some(Action.LISTEN, "shop")
    assert not rules.allow_some(Action.CALL, "shop")
    assert rules.allow_some(Action.CALL, "auth")
    assert not Rules.read(["*"]).allow_some(Action.CALL, "internal.events")


@pytest.mark.parametrize("text", ["", "shop", "shop.", ".price", "shop..price", "read:shop.price", "shop price", "ä.b"])
def test_invalid_rule_is_refused_with_the_form(text: str) -> None:
    """Is refused with how one is written."""
    with pytest.raises(InvalidConfiguration, match=r"auth\.check_password"):
        Rule.read(text)


def test_rules_that_open_nothing() -> None:
    """Are named, with what may have been meant; patterns that match something are not."""
    members = {"auth": ["check_password", "user_registered"], "shop.orders": ["place"]}
    rules = Rules.read(["auth.*", "call:*.place", "auht.*", "auth.chek_password", "nothing.at_all"])
    assert rules.opening_nothing(members) == [
        "Nobody on the bus has auht.* now: what it allows is not open. Did you mean 'auth'?",
        "Nobody on the bus has auth.chek_password now: what it allows is not open. Did you mean 'auth.check_password'?",
        "Nobody on the bus has nothing.at_all now: what it allows is not open.",
    ]
    assert Rules.read(["auth.*"]).opening_nothing({}) == [
        "Nobody on the bus has auth.* now: what it allows is not open."
    ]
