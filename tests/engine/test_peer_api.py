"""The answers of a worker about itself."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import lightbus
from helpers import Door, wait_until
from helpers.damage import damage
from helpers.surroundings import Surroundings
from lightbus import Api, BusPath, Event, InvalidArguments, LightbusException, LightbusWorkerError, SchemaNotFound
from lightbus.__about__ import version
from lightbus.adapters.sqlite.outbox import HostOutbox
from lightbus.engine.peer_api import PeerApi
from lightbus.message import EventMessage, RpcMessage
from lightbus.rpc import trace

SETTINGS = {"security": {"mode": "host"}}


class AuthApi(Api):
    user_registered = Event(["username"])

    class Meta:
        name = "auth"

    def check_password(self, user: str, password: str) -> bool:
        return password == "secret"

    async def fail(self) -> None:
        raise RuntimeError("as it should")


def greet(event_message: EventMessage) -> None:
    """A listener."""


@pytest.fixture
def service() -> Iterator[BusPath]:
    """Run a worker in this process, on its own sockets."""
    bus = lightbus.create(SETTINGS, service_name="auth-service", process_name="calm-otter")
    bus.client.register_api(AuthApi())
    bus.auth.user_registered.listen(greet, listener_name="greeter")
    bus.client.start_in_background()
    yield bus
    bus.client.close()


@pytest.fixture
def bus(service: BusPath) -> Iterator[BusPath]:
    """Return a caller that has found the worker."""
    caller = lightbus.create(SETTINGS, service_name="caller")
    caller.client.wait_for_apis("auth")
    yield caller
    caller.client.close()


def targeted(service: BusPath) -> dict[str, str]:
    """Return the options that direct a call to this worker."""
    return {"peer": service.client.engine.identity.instance}


def test_internal_calls_run_no_user_hook(service: BusPath, bus: BusPath, door: Door) -> None:
    """Hooks that refuse calls only refuse the user's own: a worker still answers internal calls."""
    told: list[tuple[str, str]] = []

    def refuse(hook: str) -> Callable[..., None]:
        def note(rpc_message: RpcMessage) -> None:
            told.append((hook, rpc_message.canonical_name))
            raise PermissionError("not today")

        return note

    for on, hook in ((bus, "before_rpc_call"), (bus, "after_rpc_call")):
        getattr(on.client, hook)(refuse(hook))
    for hook in ("before_rpc_execution", "after_rpc_execution"):
        getattr(service.client, hook)(refuse(hook))
    assert door.call(bus.internal.peer.ping, bus_options=targeted(service)) > 0
    with pytest.raises(LightbusException, match="nobody"):
        door.call(bus.internal.peer.describe, api="nobody", bus_options=targeted(service))
    assert bus.auth.user_registered.history() == []
    assert told == []
    with pytest.raises(PermissionError):
        door.call(bus.auth.check_password, user="sally", password="secret")
    assert told == [("before_rpc_call", "auth.check_password")]


def test_workers_call_each_other_without_hooks(service: BusPath) -> None:
    """Requests between workers for groups and schemas are no calls of the user, and no user hook sees them."""
    told: list[str] = []
    other = lightbus.create(SETTINGS, service_name="twin")
    with contextlib.closing(other.client):
        other.client.register_api(AuthApi())
        for bus, hook in ((other, "before_rpc_call"), (service, "before_rpc_execution")):
            getattr(bus.client, hook)(lambda rpc_message: told.append(rpc_message.canonical_name))
        other.client.start_in_background()
        wait_until(lambda: ("auth", "auth-service-greeter") in groups_known_to(other))
    assert told == []


def groups_known_to(bus: BusPath) -> set[tuple[str, str]]:
    """Return the consumer groups that a worker knows, by API and name."""
    worker = bus.client.worker
    assert worker is not None
    assert worker.parts is not None
    return set(worker.parts.coordinator.groups)


def test_ping_returns_the_wall_clock(service: BusPath, bus: BusPath, door: Door) -> None:
    """The answer is its wall clock, in seconds since 1970."""
    before = time.time()
    told = door.call(bus.internal.peer.ping, bus_options=targeted(service))
    assert before <= told <= time.time()


def test_info_names_identity_start_and_listeners(service: BusPath, bus: BusPath, surroundings: Surroundings) -> None:
    """It contains the identity, the start time, and the listeners."""
    info = bus.internal.peer.info(bus_options=targeted(service))
    started_at = info.pop("started_at")
    assert 0.0 <= info.pop("uptime") < 60
    assert time.time() - 60 < started_at <= time.time()
    assert info == {
        "bus": surroundings.bus,
        "instance": service.client.engine.identity.instance,
        "service": "auth-service",
        "process": "calm-otter",
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "version": version(),
        "features": ["events", "rpcs", "tasks"],
        "listeners": [
            {"api": "auth", "events": ["user_registered"], "name": "greeter", "group": "auth-service-greeter"}
        ],
    }


def test_calls_are_reported_to_watchers(
    service: BusPath, bus: BusPath, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the first request on, calls are reported with their outcome; calls of other watchers are not."""
    monkeypatch.setattr(trace, "LEASE", 600.0)  # seconds: on a busy machine five may pass between two questions

    def watch(after: int = 0) -> dict[str, Any]:
        told: dict[str, Any] = bus.internal.peer.watch_calls(watcher="me", after=after, bus_options=targeted(service))
        return told

    bus.auth.check_password(user="ada", password="early")
    assert watch() == {"calls": [], "noted": 0}
    assert door.call(bus.auth.check_password, user="admin", password="secret")
    with pytest.raises(LightbusWorkerError):
        door.call(bus.auth.fail)
    stats(service, bus)
    checked, failed = watch()["calls"]
    assert (checked["procedure"], checked["kwargs"]) == ("check_password", {"user": "admin", "password": "secret"})
    assert (checked["result"], checked["error"], checked["caller_service"]) == (True, None, "caller")
    assert checked["caller"] == bus.client.engine.identity.instance
    assert time.time() - 60 < checked["at"] <= time.time()
    assert 0 < checked["seconds"] < 60
    assert (failed["error"], failed["message"]) == (
        "builtins.RuntimeError",
        "auth.fail raised RuntimeError: as it should",
    )
    assert watch(after=2) == {"calls": [], "noted": 2}
    bus.internal.peer.end_watch(watcher="me", bus_options=targeted(service))
    door.call(bus.auth.check_password, user="ada", password="late")
    assert watch(after=2) == {"calls": [], "noted": 0}


def test_info_changes_with_the_listeners(service: BusPath, bus: BusPath) -> None:
    """A listener declared in the meantime is in the next answer."""
    bus.internal.peer.info(bus_options=targeted(service))
    service.auth.user_registered.listen(greet, listener_name="late")
    info = bus.internal.peer.info(bus_options=targeted(service))
    assert [listener["name"] for listener in info["listeners"]] == ["greeter", "late"]


def stats(service: BusPath, bus: BusPath) -> dict[str, Any]:
    """Return the statistics of the worker."""
    told: dict[str, Any] = bus.internal.peer.stats(bus_options=targeted(service))
    return told


def test_stats_of_calls(service: BusPath, bus: BusPath, door: Door) -> None:
    """Calls, errors, latency and callers' services are counted per procedure; internal procedures are left out."""
    before = time.monotonic()
    for password in ("secret", "guess"):
        door.call(bus.auth.check_password, user="admin", password=password)
    with pytest.raises(InvalidArguments):
        door.call(bus.auth.check_password, user="admin")
    with pytest.raises(LightbusWorkerError):
        door.call(bus.auth.fail)
    check, fail = stats(service, bus)["procedures"]
    assert check.pop("caller_p99") == {"caller": check["p99"]}
    assert 0 < check.pop("p50") <= check.pop("p99") < time.monotonic() - before
    assert check == {
        "api": "auth", "procedure": "check_password", "calls": 3, "errors": 1, "callers": {"caller": 3},
        "caller_errors": {"caller": 1},
    }  # fmt: skip
    assert (fail["procedure"], fail["calls"], fail["errors"]) == ("fail", 1, 1)


def test_stats_of_an_idle_worker(service: BusPath, bus: BusPath) -> None:
    """A worker without calls reports none: the request itself does not count."""
    told = stats(service, bus)
    assert (told["running"], told["queued"], told["concurrency"], told["procedures"]) == (0, 0, 100, [])
    assert 0 < told["uptime"] < 60
    assert (told["connected"], told["clients"]) == (1, {"caller": 1})
    assert (told["refused_connections"], told["dropped_answers"]) == ({}, 0)


def test_stats_of_events(service: BusPath, bus: BusPath) -> None:
    """Published and handled events are counted per event, with the delay until they were handled."""
    before = time.time()
    for username in ("sally", "ada"):
        bus.auth.user_registered(username=username)
    wait_until(lambda: stats(service, bus)["listeners"][0]["handled"] == {"user_registered": 2})
    told = stats(service, bus)
    [events] = told["events"]
    assert events.pop("bytes") > len("sally") + len("ada")
    assert events == {"api": "auth", "event": "user_registered", "published": 2}
    [listener] = told["listeners"]
    assert (listener["name"], listener["api"], listener["events"]) == ("greeter", "auth", ["user_registered"])
    assert [listener[what] for what in ("waiting", "failed", "retried", "dropped", "invalid")] == [0] * 5
    [(publisher, delay)] = listener["delay_p99"]["user_registered"].items()
    assert publisher == service.client.engine.identity.instance
    assert 0 < delay < time.time() - before


def test_health_names_a_stalled_loop(service: BusPath, bus: BusPath) -> None:
    """A worker without problems reports that it is healthy; a recently blocked loop is reported as a problem."""
    well = {"healthy": True, "problems": [], "losses": [], "refused": []}

    def health() -> Any:
        return bus.internal.peer.health(bus_options=targeted(service))

    wait_until(lambda: health() == well)  # on a busy machine its loop may have stalled
    worker = service.client.worker
    assert worker is not None
    assert worker.parts is not None
    service.client.engine.journals.failure = "The journal x cannot be opened."
    text = "No event can be kept here at the moment. The journal x cannot be opened."
    wait_until(lambda: health()["problems"] == [text])
    service.client.engine.journals.failure = ""
    worker.parts.server._stalled_until = time.monotonic() + 60
    told = health()
    assert not told["healthy"]
    assert "has just been blocked" in told["problems"][0]


def test_health_of_the_outbox(service: BusPath, bus: BusPath) -> None:
    """Refused events in the host's outbox are reported, with the reason, but not as a problem of the worker."""
    outbox = HostOutbox(service.client.engine.journals.path)
    outbox.put(id="1", api="mail", event="sent", key=None, record=b"")
    assert bus.internal.peer.health(bus_options=targeted(service))["refused"] == []
    outbox.refuse([("1", "a digest", "It has no event 'sent'.")])
    told = bus.internal.peer.health(bus_options=targeted(service))
    [text] = told["refused"]
    assert text.startswith(f"1 events of mail.sent are kept in the outbox {outbox.path} on ")
    assert "It has no event 'sent'. It is tried again once the API 'mail' changes" in text
    wait_until(lambda: bus.internal.peer.health(bus_options=targeted(service))["healthy"])
    damage(outbox.path)
    [text] = bus.internal.peer.health(bus_options=targeted(service))["refused"]
    assert "was damaged and is quarantined under this name: what is in it is not delivered" in text


def test_schema_is_returned_as_declared(service: BusPath, bus: BusPath) -> None:
    """The schemas of an API are the same as where the API is declared."""
    told = bus.internal.peer.schema(api="auth", bus_options=targeted(service))
    assert told == service.schema.get_api_schema("auth")
    assert list(told["rpcs"]) == ["check_password", "fail"]
    assert list(told["events"]) == ["user_registered"]


def test_schema_of_an_unknown_api(service: BusPath, bus: BusPath) -> None:
    """The error says that there is none."""
    with pytest.raises((SchemaNotFound, LightbusWorkerError), match="nothing"):
        bus.internal.peer.schema(api="nothing", bus_options=targeted(service))


def test_internal_api_is_not_advertised(service: BusPath, bus: BusPath) -> None:
    """Every worker has it, so it is not announced; it is no public API, and no part of `bus.schema`."""
    assert list(bus.client.engine.snapshot.by_api) == ["auth"]
    assert [api.meta.name for api in service.client.api_registry.public()] == ["auth"]
    assert isinstance(service.client.api_registry.get("internal.peer"), PeerApi)
    assert service.schema.api_names == ["auth"]
