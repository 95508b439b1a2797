"""`lightbus inspect`: finds events in the journals of all publishers. Its options are those of Lightbus 1.x."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any

import click

from ...exceptions import EventNotFound, LightbusException, SchemaNotFound, did_you_mean
from ...phrases import clean
from ...wire.plain import shown_form
from ..support.catalogue import no_api, served_apis
from ..support.connection import Connection, first_answer, on_bus, passes, stop_requested
from ..support.json_path import COMPARATORS, JsonSearch, parse_search
from ..support.kept import Journals
from ..support.options import ClientOptions, client_options
from ..support.output import json_line
from ..support.publishers import code_of, nothing_shown

__all__ = ["Search", "inspect"]

FOLLOW_EVERY = 0.5
"""Seconds between two reads of the journals with --follow."""

NOT_NEEDED = {
    "cache_only": "--cache-only: there is no local cache; the publishers' journals are read.",
    "show_casting": "--show-casting: events are shown as they are kept, and not cast for any listener.",
    "module": "--bus: no bus module is needed; the APIs are those on the bus.",
    "service_name": "--service-name: it makes no difference here.",
    "process_name": "--process-name: it makes no difference here.",
}
"""Parameter of an option of 1.x that has no effect here -> the note about it."""


VERDICTS = {True: ("valid", "green"), False: ("invalid", "red"), None: ("not checked", "yellow")}
"""Result of --validate -> its text and style."""


def _version(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[str, int] | None:
    """Parse `2`, `=2`, `!=2`, `<2`, `<=2`, `>2`, `>=2` into comparator and number."""
    if value is None:
        return None
    found = re.fullmatch(r"\s*(<=|>=|!=|==|=|<|>)?\s*(\d+)\s*", value)
    if found is None:
        raise click.BadParameter(f"'{value}' is not a version: write 2, <2, <=2, >2, >=2, =2 or !=2")
    return found[1] or "=", int(found[2])


def _json(ctx: click.Context, param: click.Parameter, value: str | None) -> JsonSearch | None:
    """Parse a path, optionally with a comparator and a value, into a search."""
    try:
        return None if value is None else parse_search(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@dataclass(frozen=True, kw_only=True)
class Search:
    """
    The conditions of a search.

    Attributes:
        json: a condition on the arguments.
        id, native_id: the id of a single event.
        api, event: names, with wildcards.
        version: a comparator and a number.
        internal: whether to include internal APIs even if no API is named.

    """

    json: JsonSearch | None = None
    id: str | None = None
    native_id: str | None = None
    api: str | None = None
    event: str | None = None
    version: tuple[str, int] | None = None
    internal: bool = False

    @cached_property
    def is_for_one(self) -> bool:
        """Whether at most one event can match."""
        return self.id is not None or self.native_id is not None

    def matches(self, event: dict[str, Any]) -> bool:
        """Return whether an event matches."""
        if self.id is not None and event["id"] != self.id:
            return False
        if not self.api and not self.internal and not self.is_for_one and event["api"].startswith("internal."):
            return False
        if not (fnmatchcase(event["api"], self.api or "*") and fnmatchcase(event["event"], self.event or "*")):
            return False
        if self.version is not None and not COMPARATORS[self.version[0]](event["version"], self.version[1]):
            return False
        return self.json is None or self.json.matches(shown_form(event["kwargs"]))


@click.command()
@click.option(
    "--json-path", "-j", "json", callback=_json, metavar="PATH=VALUE", help="What is in it: address.city=London, n>=3."
)
@click.option("--id", "-i", metavar="ID", help="The event with this id.")
@click.option("--native-id", "-n", metavar="ID", help="The event that is kept at this place.")
@click.option("--api", "-a", metavar="NAME", help="Of this API; * stands for anything.")
@click.option("--event", "-e", metavar="NAME", help="Of this name; * stands for anything.")
@click.option("--version", "-v", callback=_version, metavar="VERSION", help="Of this version: 2, <2, >=2, !=2.")
@click.option(
    "--format", "-F", "form", type=click.Choice(["json", "pretty", "human"]),
    help="How it is shown. [default: human on a terminal, else json]",
)  # fmt: skip
@click.option("--follow", "-f", is_flag=True, help="Go on with those that are fired from now on, until Ctrl-C.")
@click.option("--validate", "-d", is_flag=True, help="Check the arguments against the schema on the bus.")
@click.option("--internal", "-I", is_flag=True, help="Internal APIs, too.")
@click.option("--count", type=click.IntRange(1), metavar="N", help="End after so many events.")
@click.option("--cache-only", "-c", is_flag=True, hidden=True)
@click.option("--show-casting", "--show-casts", "-C", is_flag=True, hidden=True)
@click.option("--bus", "-b", "module", hidden=True)
@click.option("--service-name", "-s", hidden=True)
@click.option("--process-name", "-p", hidden=True)
@client_options
def inspect(
    options: ClientOptions, form: str | None, follow: bool, validate: bool, count: int | None, **given: Any
) -> None:
    """Find events in the journals of all publishers.

    lightbus inspect --api auth --event user_registered --json-path username=sally

    Oldest first; all conditions have to hold. The options are those of Lightbus 1.x. Exit code 1: --validate found an
    event that does not satisfy its schema. 3: there is no such API or event, or not the one that --id or --native-id
    names, or a peer does not answer, so that events may be missing.
    """
    said = [text for name, text in NOT_NEEDED.items() if given.pop(name)]
    search = Search(**given)
    form = "json" if options.as_json else form or ("human" if sys.stdout.isatty() else "json")
    on_bus(options, lambda bus: _Inspection(bus, search, form, validate=validate).run(said, count, follow=follow))


class _Inspection:
    """One search and its results."""

    def __init__(self, bus: Connection, search: Search, form: str, *, validate: bool) -> None:
        self._bus = bus
        self._search = search
        self._show = {"json": self._as_json, "pretty": self._pretty, "human": self._for_people}[form]
        self._validate = validate
        self._journals = Journals(bus, api=search.api or "*", event=search.event or "*")
        self._schemas: set[str] = set()
        self._apis_seen: set[str] = set()
        self._found = 0
        self._invalid = 0

    async def run(self, remarks: list[str], count: int | None, *, follow: bool) -> int:
        """Show the events found, and return the exit code."""
        for remark in remarks:
            self._bus.output.note(remark)
        await self._journals.look()
        done = stop_requested() if follow else None
        while not await self._go_through(count) and done is not None and not await passes(done, FOLLOW_EVERY):
            await self._journals.look()
        if self._search.is_for_one and not self._found:
            self._bus.output.note(nothing_shown(self._bus, "There is no such event in any journal (any more)."))
            return 3
        if self._journals.failure is not None and not follow:
            raise self._journals.failure
        if not self._found:
            if not follow:
                self._refuse_unknown()
            self._bus.output.note(nothing_shown(self._bus, "No journal has such an event."))
        if self._invalid:
            return 1
        return 0 if follow else code_of(self._bus)

    def _refuse_unknown(self) -> None:
        """Raise UnknownApi, or EventNotFound, if neither a peer nor a journal has the wanted event."""
        api, event = self._search.api or "*", self._search.event or "*"
        served = {each.name: each for each in served_apis(self._bus.client.engine.snapshot.peers.values())}
        names = {*served, *self._apis_seen}
        if not any(fnmatchcase(name, api) for name in names):
            raise no_api(api, sorted(names))
        events = {name for each in served.values() if fnmatchcase(each.name, api) for name in each.events}
        if events and not any(fnmatchcase(name, event) for name in events):
            near = did_you_mean(event, events)
            raise EventNotFound(f"'{api}' has no event '{event}', and no journal has one.{near}")

    async def _go_through(self, count: int | None) -> bool:
        """Show new matching events; return whether the search is complete."""
        if self._search.native_id is not None:
            return await self._go_to(self._search.native_id)
        with self._bus.output.progress("Reading journals", self._journals.total) as advance:
            number = 0
            async for event in self._journals.events():
                number += 1
                self._apis_seen.add(event["api"])
                advance(number, "")
                if self._search.matches(event):
                    await self._found_one(event)
                    if self._search.is_for_one or self._found == count:
                        return True
        return False

    async def _go_to(self, native_id: str) -> bool:
        try:
            event = await self._journals.find(native_id)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--native-id") from None
        if event is not None and self._search.matches(event):
            await self._found_one(event)
        return True

    async def _found_one(self, event: dict[str, Any]) -> None:
        self._found += 1
        shown = {
            name: event[name]
            for name in ("id", "native_id", "api", "event", "version", "published_at", "publisher", "kwargs")
        }
        if self._validate:
            shown["valid"], shown["problem"] = await self._checked(event)
            self._invalid += shown["valid"] is False
        self._show(shown)

    async def _checked(self, event: dict[str, Any]) -> tuple[bool | None, str | None]:
        """Return whether an event satisfies its schema (None if that is unknown), and why not."""
        api = event["api"]
        if api not in self._schemas:
            self._schemas.add(api)
            await self._learn(api)
        try:
            self._bus.client.schema.validate_event(api, event["event"], event["kwargs"])
        except SchemaNotFound as error:
            return None, str(error)
        except LightbusException as error:
            return False, str(error)
        return True, None

    async def _learn(self, api: str) -> None:
        peers = self._bus.client.engine.snapshot.by_api.get(api, ())
        if not peers:
            return
        try:
            schema = await first_answer(peers, lambda peer: self._bus.ask(peer, "schema", api=api))
        except LightbusException as error:
            self._bus.output.note(f"The events of {api} cannot be checked: {error}")
        else:
            self._bus.client.schema.add_foreign(api, schema)

    # The forms

    def _as_json(self, event: dict[str, Any]) -> None:
        self._bus.output.record(event)

    def _pretty(self, event: dict[str, Any]) -> None:
        text = json.dumps({name: shown_form(each) for name, each in event.items()}, indent=4, ensure_ascii=False)
        for line in text.splitlines():
            self._bus.output.line(line)

    def _for_people(self, event: dict[str, Any]) -> None:
        line = self._bus.output.line
        at = datetime.fromtimestamp(event["published_at"]).isoformat(" ", "milliseconds")
        line((at, "dim"), "  ", (f"{event['api']}.{event['event']}", "bold"), f"  version {event['version']}")
        line(f"    id {event['id']}  native id {event['native_id']}  kept by {event['publisher']}")
        for name, value in event["kwargs"].items():
            line("    ", (f"{clean(name)}: ", "cyan"), json_line(value))
        if "valid" in event:
            line("    ", VERDICTS[event["valid"]], f": {event['problem']}" if event["problem"] else "")
