"""`lightbus demo`: shows two services, each in its own process, with this process as their client.

Every line is an observation, by this process's client or reported by a worker (`demo_services.observer`).
"""

from __future__ import annotations

import secrets
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

import click

if TYPE_CHECKING:
    from ...core.registry import Peer
    from ...path import BusPath
    from ..demo_services.lines import Lines
    from ..demo_services.workers import Observation, Workers

__all__ = ["demo"]

START_SECONDS = 60.0
CHAIN_SECONDS = 30.0
"""Generous: for a busy machine, or one that compiles all modules first. A worker that ends is noticed at once."""

ADMIN: dict[str, Any] = {"user": "admin", "password": "secret"}
SALLY: dict[str, Any] = {"customer_name": "Sally", "email": "sally@example.com"}


@click.command()
@click.option("--keep", is_flag=True, help="Leave the workers running for a second terminal, until Ctrl-C.")
def demo(keep: bool) -> None:
    """Show two services finding each other, a call and an event, without a broker.

    The workers are processes on this host, on a separate bus: they do not disturb anything else.
    """
    from ..demo_services.lines import Lines
    from ..demo_services.workers import Workers

    began = time.monotonic()
    bus_name = f"demo-{secrets.token_hex(3)}"
    lines = Lines()
    with _signals_that_raise(), _own_directory(bus_name), Workers(["customers", "auth"], bus_name) as workers:
        lines.line("demo", "starts", f"two workers and a client on the bus {bus_name}", "on this host, no broker")
        _show(lines, bus_name, workers)
        if keep:
            _stay(lines, bus_name, workers)
    lines.line("demo", "ends", f"after {time.monotonic() - began:.1f} s", "nothing is left running")


def _show(lines: Lines, bus_name: str, workers: Workers) -> None:
    from ...exceptions import LightbusException

    bus = _client(bus_name)
    try:
        with bus.client:
            _show_announcements(lines, bus, workers)
            _show_subscriptions(lines, workers)
            _show_calls(lines, bus)
            _show_event(lines, bus, workers)
    except LightbusException as error:
        raise workers.failure(str(error)) from error


def _client(bus_name: str) -> BusPath:
    from ...config import load_config
    from ...creation import create

    # A Config replaces file and environment: the user's own settings must have no effect here.
    return create(load_config({"bus": {"name": bus_name}}, service_name="demo", environ={}))


@contextmanager
def _signals_that_raise() -> Iterator[None]:
    """Make SIGTERM and SIGHUP raise SystemExit, so that the workers are stopped."""

    def end(number: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _own_directory(bus_name: str) -> Iterator[None]:
    """Remove the socket directories of this bus at the end: its name is never used again."""
    from ...adapters.host.places import places_of_user

    try:
        yield
    finally:
        for directory in places_of_user(bus_name, None).there():
            shutil.rmtree(directory, ignore_errors=True)


# The steps


def _show_announcements(lines: Lines, bus: BusPath, workers: Workers) -> None:
    _wait_for_peers(bus, workers)
    for peer in sorted(bus.client.engine.snapshot.peers.values(), key=lambda each: each.announcement.service):
        info = bus.internal.peer.info.call(bus_options={"peer": peer.instance})
        note = f"process {info['pid']}, found by {peer.source.value}, answers at {peer.endpoint}"
        lines.line(peer.announcement.service, "announces", _offers(peer), note)


def _wait_for_peers(bus: BusPath, workers: Workers) -> None:
    from ...exceptions import LightbusTimeout

    end = time.monotonic() + START_SECONDS
    while True:
        try:
            return bus.client.wait_for_apis("auth", "customers", timeout=0.2)
        except LightbusTimeout:
            workers.check()
            missing = {"auth", "customers"}.difference(bus.client.engine.snapshot.api_names())
            if missing and time.monotonic() > end:
                text = f"Within {START_SECONDS:g} s no peer advertised {' and '.join(sorted(missing))}."
                raise LightbusTimeout(text) from None


def _offers(peer: Peer) -> str:
    offers = []
    for api in peer.announcement.apis or ():
        offers += [f"{api.name}.{procedure}()" for procedure in api.procedures]
        offers += [f"event {api.name}.{event}" for event in api.events]
    return ", ".join(offers)


def _show_subscriptions(lines: Lines, workers: Workers) -> None:
    def listens(service: str, seen: Observation) -> bool:
        return bool(seen["what"] == "listens" and seen["service"] == service)

    for seen in workers.until(
        lambda seen: listens("auth", seen),
        lambda seen: listens("customers", seen),
        what="each service listens to the other",
        seconds=CHAIN_SECONDS,
    ):
        lines.observation(seen)


def _show_calls(lines: Lines, bus: BusPath) -> None:
    from ..demo_services.lines import spelled

    for peer in bus.client.engine.snapshot.by_api["auth"]:
        lines.line("client", "resolves", f"auth.check_password -> {peer.announcement.service}", f"at {peer.endpoint}")
    for kwargs, note in ((ADMIN, "connecting included"), ({**ADMIN, "password": "guess"}, "")):
        began = time.perf_counter()
        result = bus.auth.check_password(**kwargs)
        taken = (time.perf_counter() - began) * 1000
        call = spelled("auth.check_password", kwargs)
        lines.line("client", "calls", f"{call} -> {result!r} in {taken:.1f} ms", note)


def _show_event(lines: Lines, bus: BusPath, workers: Workers) -> None:
    from ..demo_services.lines import spelled

    began = time.perf_counter()
    message = bus.customers.new_customer(**SALLY)
    taken = (time.perf_counter() - began) * 1000
    publisher = bus.client.engine.snapshot.peers[message.publisher].announcement.service
    lines.line(
        "client", "fires", f"{spelled(message.canonical_name, SALLY)}", f"taken by {publisher} in {taken:.1f} ms"
    )
    for seen in workers.until(
        lambda seen: seen["what"] == "got reply" and seen["name"] == "auth.create_user",
        lambda seen: seen["what"] == "hears" and seen["name"] == "auth.user_registered",
        what=f"a listener of {message.canonical_name} called auth.create_user",
        seconds=CHAIN_SECONDS,
    ):
        if seen.get("name") != "auth.check_password":  # shown by the caller already
            lines.observation(seen)


# --keep


def _stay(lines: Lines, bus_name: str, workers: Workers) -> None:
    call, event = (
        _command(bus_name, code)
        for code in (
            'print(lightbus.create().auth.check_password(user="admin", password="secret"))',
            'lightbus.create().customers.new_customer(customer_name="Ada", email="ada@example.com")',
        )
    )
    lines.plain(f"\nThe workers keep running. In a second terminal, call or fire:\n\n    {call}\n\n    {event}\n")
    lines.plain("What they do is shown here. Ctrl-C ends them.\n")
    try:
        while True:
            seen = workers.next(0.2)
            if seen is not None:
                lines.observation(seen)
    except KeyboardInterrupt:
        lines.plain()


def _command(bus_name: str, code: str) -> str:
    # Mode host: with the user's key it would be another bus.
    environment = f"LIGHTBUS_BUS={bus_name} LIGHTBUS_SECURITY=host"
    return f"{environment} {shlex.quote(sys.executable)} -c {shlex.quote(f'import lightbus; {code}')}"
