"""Which events and calls a command shows: by name, by content, and by sender."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, TypeVar

import click

from ...wire.plain import shown_form
from .completing import complete_peers
from .connection import Connection, is_called
from .json_path import JsonSearch, parse_search

__all__ = ["MessageFilter", "filter_options"]

_WILD = {*"*?[]"}

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageFilter:
    """
    Conditions on events and calls, all of which must hold.

    Attributes:
        pattern: a pattern for the name, with `*` for anything.
        where: conditions on the arguments.
        sender: service, process or instance of the publisher or caller; empty for any.

    """

    pattern: str = "*"
    where: tuple[JsonSearch, ...] = ()
    sender: str = ""

    @property
    def names(self) -> tuple[str, str]:
        """
        Patterns of API and event that match all wanted events, and as few others as possible.

        They are sent to publishers, to avoid transferring events that are not shown.
        """
        first = next((n for n, character in enumerate(self.pattern) if character in _WILD), None)
        api, _, event = self.pattern.rpartition(".")
        if first is not None:
            # The text before the first wildcard, up to its last dot, begins the API: names of members have no dot.
            api = self.pattern[:first].rpartition(".")[0] + "*"
        return api or "*", "*" if not event or _WILD & {*event} else event

    def wants(self, bus: Connection, name: str, kwargs: Any, *, sender: str, service: str = "") -> bool:
        """
        Return whether an event or a call matches.

        Args:
            bus: knows the names of the sender.
            name: `api.member`.
            kwargs: the arguments; None if they were too large to report.
            sender: the instance of the publisher or caller.
            service: the service of the sender, if it is reported with the call.

        """
        if not fnmatchcase(name, self.pattern):
            return False
        if self.sender and not self._is_from(bus, sender, service):
            return False
        if not self.where:
            return True
        arguments = shown_form(kwargs)
        return all(search.matches(arguments) for search in self.where)

    def _is_from(self, bus: Connection, instance: str, service: str) -> bool:
        peer = bus.client.engine.snapshot.peers.get(instance)
        if peer is not None:
            return is_called(self.sender, peer.announcement.service, peer.announcement.process, instance)
        return is_called(self.sender, service, "", instance)


def _searches(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> tuple[JsonSearch, ...]:
    try:
        return tuple(map(parse_search, value))
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def filter_options(function: F) -> F:
    """Add --where and --from, given as `where` and `sender`."""
    where = click.option(
        "--where", multiple=True, callback=_searches, metavar="CONDITION",
        help="Only with such arguments: 'amount > 100', address.city=London; if given several times, all have to hold.",
    )  # fmt: skip
    sender = click.option(
        "--from", "sender", default="", metavar="PEER", shell_complete=complete_peers,
        help="Only of this service, process or instance: who fired the event, or made the call.",
    )  # fmt: skip
    return where(sender(function))
