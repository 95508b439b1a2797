"""Which events and calls are wanted: by name, by arguments, by sender."""

from __future__ import annotations

from fnmatch import fnmatchcase
from types import SimpleNamespace
from typing import Any, cast

import click
import pytest
from click.testing import CliRunner

from helpers.scripted_bus import peer
from lightbus.cli.support.connection import Connection
from lightbus.cli.support.filters import MessageFilter, filter_options
from lightbus.cli.support.json_path import parse_search

AUTH = "a" * 16
PEERS = {AUTH: peer("auth", instance=AUTH)}
BUS = cast(
    Connection, SimpleNamespace(client=SimpleNamespace(engine=SimpleNamespace(snapshot=SimpleNamespace(peers=PEERS))))
)


def wants(wanted: MessageFilter, kwargs: Any = None, *, sender: str = AUTH, service: str = "") -> bool:
    """Return whether `shop.paid` is wanted."""
    return wanted.wants(BUS, "shop.paid", kwargs, sender=sender, service=service)


def where(*conditions: str) -> MessageFilter:
    """Return a filter with these conditions."""
    return MessageFilter(where=tuple(map(parse_search, conditions)))


def test_arguments_that_are_nested_too_deeply() -> None:
    """Nothing is found in them, and no error ends the command."""
    deep: list[Any] = []
    for _ in range(1000):
        deep = [deep]
    assert not wants(where("value"), {"value": deep})
    assert wants(MessageFilter(), {"value": deep})


@pytest.mark.parametrize(("pattern", "wanted"), [("*", True), ("shop.*", True), ("shop.paid", True), ("auth.*", False)])
def test_filter_by_name_matches_the_whole_name(pattern: str, wanted: bool) -> None:
    """The whole name has to match."""
    assert wants(MessageFilter(pattern=pattern)) is wanted


def test_filter_by_arguments_needs_all_conditions() -> None:
    """All conditions must hold; arguments too large to be reported match none."""
    paid = {"amount": 150, "to": {"city": "London"}}
    assert wants(where("amount > 100"), paid)
    assert wants(where("amount>100", "to.city = London"), paid)
    assert not wants(where("amount>100", "to.city=Paris"), paid)
    assert not wants(where("amount>100"), None)


@pytest.mark.parametrize(
    ("name", "wanted"), [("auth", True), ("one", True), ("aaaa", True), ("aaa", False), ("shop", False)]
)
def test_filter_by_sender_takes_service_process_or_instance(name: str, wanted: bool) -> None:
    """A service, a process, or the beginning of an instance's id."""
    assert wants(MessageFilter(sender=name)) is wanted


def test_by_a_sender_that_is_gone() -> None:
    """Its id is left, and of a call its service."""
    assert wants(MessageFilter(sender="bbbb"), sender="b" * 16)
    assert wants(MessageFilter(sender="script"), sender="b" * 16, service="script")
    assert not wants(MessageFilter(sender="script"), sender="b" * 16)


def test_filters_are_read_from_the_command_line() -> None:
    """Conditions are parsed; an invalid one is refused."""
    given: list[Any] = []

    @click.command()
    @filter_options
    def command(**which: Any) -> None:
        given.append(MessageFilter(**which))

    run = CliRunner().invoke
    assert run(command, ["--where", "a>1", "--where", "b", "--from", "auth"]).exit_code == 0
    assert given == [MessageFilter(where=(parse_search("a>1"), parse_search("b")), sender="auth")]
    assert run(command, ["--where", "=1"]).exit_code == 2


NAMES = ["shop.paid", "shop.orders.paid", "shop.orders.placed", "shopping.paid", "a[b].c", "auth.paid"]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*", ("*", "*")),
        ("", ("*", "*")),
        ("shop", ("*", "shop")),
        ("shop.paid", ("shop", "paid")),
        ("shop.orders.paid", ("shop.orders", "paid")),
        ("shop.*", ("shop*", "*")),
        ("shop.orders.p*", ("shop.orders*", "*")),
        ("sho*.paid", ("*", "paid")),
        ("*.paid", ("*", "paid")),
        ("shop.*.paid", ("shop*", "paid")),
        ("shop?paid", ("*", "*")),
        ("shop[.x]paid", ("*", "*")),
        ("shop.[op]*", ("shop*", "*")),
    ],
)
def test_what_publishers_are_asked_for(pattern: str, names: tuple[str, str]) -> None:
    """All wanted events match, and as few others as patterns of API and event allow."""
    wanted = MessageFilter(pattern=pattern)
    assert wanted.names == names
    api, event = names
    for name in NAMES:
        if fnmatchcase(name, pattern):
            assert fnmatchcase(name.rpartition(".")[0], api)
            assert fnmatchcase(name.rpartition(".")[2], event)
