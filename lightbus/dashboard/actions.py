"""Actions that the page may take if they are allowed (`--allow-actions`): calls, events, dead letters, groups."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from ..cli.support.connection import Connection
from ..cli.support.publishers import ask_each
from ..core.peers import Peer
from ..exceptions import InvalidArguments, LightbusException, LightbusWorkerError
from ..wire.plain import json_form
from .questions import silent_peers, workers

__all__ = ["ACTIONS", "Action"]

DEFAULT_SECONDS = 10.0
"""The timeout of a call from the page that names none, in seconds."""

MAX_SECONDS = 60.0
"""The longest timeout of a call from the page, in seconds."""

MAX_LETTERS = 200
"""The most dead letters of one request: the page sends several requests, and shows its progress."""

ActionFields: TypeAlias = dict[str, Any]

Action: TypeAlias = Callable[[Connection, ActionFields], Awaitable[dict[str, Any]]]


async def call(bus: Connection, given: ActionFields) -> dict[str, Any]:
    """Call a procedure at the given peer, or at any that serves it."""
    api, procedure = _text(given, "api"), _text(given, "procedure")
    arguments = _arguments(given)
    peer = _chosen(await bus.find(api), given.get("peer"))
    options = {"peer": peer.instance, "timeout": _seconds(given)}
    answer: dict[str, Any] = {"service": peer.announcement.service, "process": peer.announcement.process}
    answer["instance"] = peer.instance
    before = time.perf_counter()
    try:
        answer["result"] = json_form(await bus.client.call_rpc_remote(api, procedure, arguments, options), finite=True)
    except LightbusException as error:
        answer |= {"error": error.code, **_words(error)}
    return {**answer, "seconds": time.perf_counter() - before}


async def fire(bus: Connection, given: ActionFields) -> dict[str, Any]:
    """Fire an event."""
    api, event = _text(given, "api"), _text(given, "event")
    before = time.perf_counter()
    message = await bus.client.fire_event(api, event, _arguments(given))
    fired = {"id": message.id, "native_id": message.native_id, "publisher": message.publisher}
    return {**fired, "seconds": time.perf_counter() - before}


async def retry_dead(bus: Connection, given: ActionFields) -> dict[str, Any]:
    """Redeliver dead letters to their group."""
    return await _with_letters(bus, "retry_dead_events", given)


async def drop_dead(bus: Connection, given: ActionFields) -> dict[str, Any]:
    """Delete dead letters."""
    return await _with_letters(bus, "drop_dead_events", given)


async def remove_group(bus: Connection, given: ActionFields) -> dict[str, Any]:
    """Remove a consumer group at every publisher. `silent` lists those that did not answer."""
    api, group, asked = _text(given, "api"), _text(given, "group"), workers(bus)
    answers = await ask_each(bus, asked, "remove_group", api=api, group=group)
    return {"publishers": sum(bool(answer) for _, answer in answers), "silent": silent_peers(bus, answers)}


ACTIONS: dict[str, Action] = {
    "call": call,
    "fire": fire,
    "retry-dead": retry_dead,
    "drop-dead": drop_dead,
    "remove-group": remove_group,
}
"""All actions, by the last part of their path."""


async def _with_letters(bus: Connection, procedure: str, given: ActionFields) -> dict[str, Any]:
    native_ids = given.get("native_ids")
    if not isinstance(native_ids, list) or not all(isinstance(each, str) for each in native_ids):
        raise InvalidArguments("'native_ids' has to be a list of native ids.")
    arguments = {"group": _text(given, "group"), "native_ids": native_ids[:MAX_LETTERS]}
    options = {"peer": _text(given, "instance")}
    return {"done": await bus.client.call_rpc_remote("internal.events", procedure, arguments, options)}


def _words(error: LightbusException) -> dict[str, str]:
    """Return the text of an error; for a handler's error, the traceback separately."""
    if isinstance(error, LightbusWorkerError) and error.trace:
        return {"message": str(error.args[0]), "trace": error.trace}
    return {"message": str(error)}


def _chosen(serving: list[Peer], instance: str | None) -> Peer:
    named = [peer for peer in serving if instance in (None, "", peer.instance)]
    if not named:
        raise InvalidArguments(f"The peer {instance!r:.100} does not serve this API any more. Choose another one.")
    return random.choice(named)


def _seconds(given: ActionFields) -> float:
    seconds = given.get("timeout") or DEFAULT_SECONDS
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < math.inf:
        raise InvalidArguments("'timeout' has to be a number of seconds.")
    return min(float(seconds), MAX_SECONDS)


def _text(given: ActionFields, name: str) -> str:
    value = given.get(name)
    if not isinstance(value, str) or not value:
        raise InvalidArguments(f"'{name}' is missing: it has to be a text.")
    return value


def _arguments(given: ActionFields) -> dict[str, Any]:
    value = given.get("arguments", {})
    if not isinstance(value, dict):
        raise InvalidArguments("'arguments' has to be an object of all arguments by name.")
    return value
