"""The internal API `internal.peer`: what every worker answers about itself. Other tools can call it, too.

Call one particular peer with `bus_options={"peer": instance id}`. The results are described in docs/cli.md.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from ..adapters.sqlite.quarantine import quarantine_sentences
from ..config.features import Feature
from ..events.listening.consumer import Consumer
from ..events.listening.listener_runner import ListenerRunner
from ..events.publishing.publisher import Publisher
from ..exceptions import JournalError
from ..phrases import safely
from ..rpc.server import Server
from ..rpc.statistics import Usage, percentile
from ..service.api import Api, ApiRegistry
from ..service.description import describe_api
from ..service.schema import Schema
from .binding import Binding
from .engine import Engine
from .forwarding import refusals
from .schedule_election import ScheduleElection, stats_of

__all__ = ["HAS_STOPPED", "NOT_KEPT", "Parts", "PeerApi"]

NOT_KEPT = "No event can be kept here at the moment."
"""The problem that a worker reports whose journal accepts no events."""

MAX_CLIENTS = 100
"""The most services of connected clients that are named: their names come from the network."""

HAS_STOPPED = "has stopped, since its handler failed:"
"""Part of the problem that a worker reports of a stopped listener."""


class Described(Protocol):
    """The client that is described."""

    api_registry: ApiRegistry
    schema: Schema

    @property
    def features(self) -> tuple[Feature, ...]:
        """The enabled features of a worker."""

    @property
    def engine(self) -> Engine:
        """The engine."""

    @property
    def listeners(self) -> list[Any]:
        """The listeners."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts of the worker that have statistics."""

    binding: Binding
    server: Server
    publisher: Publisher
    consumer: Consumer
    election: ScheduleElection
    why_not_kept: Callable[[], str]
    """Returns why no event can be kept here at the moment; empty if events can be kept."""
    put_by: Callable[[], list[str]]
    """Returns a sentence for each API whose events wait because their backend does not accept them."""


class PeerApi(Api):
    """`internal.peer`."""

    class Meta:
        name = "internal.peer"
        internal = True

    def __init__(self, client: Described, parts: Parts, *, version: str) -> None:
        self._client = client
        self._parts = parts
        self._version = version
        self._started = time.monotonic()

    async def ping(self) -> float:
        """Return the worker's wall clock, in seconds since 1970."""
        return time.time()

    async def info(self) -> dict[str, Any]:
        """Return the identity of this process, its features and listeners, and when it started, by its own clock."""
        me, uptime = self._client.engine.identity, time.monotonic() - self._started
        return {
            "bus": me.bus,
            "instance": me.instance,
            "service": me.service,
            "process": me.process,
            "host": me.host,
            "pid": me.pid,
            "version": self._version,
            "features": sorted(feature.value for feature in self._client.features),
            "started_at": time.time() - uptime,
            "uptime": uptime,
            "listeners": [
                {
                    "api": listener.api,
                    "events": list(listener.events),
                    "name": listener.name,
                    "group": listener.group_of(me.service) or None,
                }
                for listener in self._client.listeners
            ],
        }

    async def stats(self) -> dict[str, Any]:
        """Return counters since the worker's start, and its present load. Durations are in seconds."""
        parts = self._parts
        return {
            "uptime": time.monotonic() - self._started,
            "running": parts.server.executing,
            "queued": parts.server.queued,
            "concurrency": self._client.engine.config.worker.rpc_concurrency,
            "connected": len(parts.binding.introductions.engines),
            "clients": dict(parts.binding.introductions.engines.clients().most_common(MAX_CLIENTS)),
            "refused_connections": dict(parts.binding.refused_connections),
            "dropped_answers": parts.binding.dropped,
            "calls": dict(parts.server.counts),
            "procedures": [_procedure(*key, usage) for key, usage in sorted(parts.server.log.usage.items())],
            "events": [
                {"api": name[0], "event": name[1], "published": count, "bytes": parts.publisher.published_bytes[name]}
                for name, count in sorted(parts.publisher.published.items())
            ],
            "listeners": [_listener(runner) for runner in parts.consumer.runners],
            "schedules": [*stats_of(parts.election.counts)],
        }

    async def health(self) -> dict[str, Any]:
        """
        Return whether this worker is healthy, its problems, and what it has lost since its start.

        `refused` lists events in the outbox of its host that their publishers refuse, and damaged files of events there
        that were renamed.
        """
        engine = self._client.engine
        problems = _problems(self._parts) + engine.outbox_problems
        look = partial(refusals, engine.outbox, engine.identity.host)
        try:
            refused = await asyncio.get_running_loop().run_in_executor(engine.executor, look)
        except JournalError as error:
            refused = [str(error)]
        look = partial(quarantine_sentences, engine.journals.path, engine.identity.host)
        refused += await asyncio.get_running_loop().run_in_executor(engine.executor, look)
        sentences = {"problems": problems, "losses": _losses(self._parts), "refused": refused}
        # Names of files in them need not be UTF-8.
        sendable = {name: [safely(str, each) for each in said] for name, said in sentences.items()}
        return {"healthy": not problems, **sendable}

    async def watch_calls(self, watcher: str, after: int = 0) -> dict[str, Any]:
        """
        Return the `calls` answered since this watcher last asked, and the number of the latest call, `noted`.

        Calls are recorded only for some seconds after each request of a watcher. A watcher passes its name and the
        number of the last call that it has received. Missing numbers are calls that were dropped: there were too many.
        """
        return self._parts.server.log.watch.take(time.monotonic(), watcher, after)

    async def end_watch(self, watcher: str) -> None:
        """Stop recording calls for a watcher."""
        self._parts.server.log.watch.end(watcher)

    async def schema(self, api: str) -> dict[str, Any]:
        """Return the schemas of an API, in the form that `lightbus dumpschema` writes."""
        return self._client.schema.get_api_schema(api)

    async def describe(self, api: str) -> dict[str, Any]:
        """Return the signatures and docstrings of an API, for people."""
        return describe_api(self._client.api_registry.get(api))


def _procedure(api: str, name: str, usage: Usage) -> dict[str, Any]:
    return {
        "api": api,
        "procedure": name,
        "calls": usage.calls,
        "errors": usage.errors,
        "p50": usage.latency(0.5),
        "p99": usage.latency(0.99),
        "callers": dict(usage.callers),
        "caller_errors": dict(usage.caller_errors),
        "caller_p99": usage.latency_by_caller(0.99),
    }


def _listener(runner: ListenerRunner) -> dict[str, Any]:
    listener, queue = runner.listener, runner.queue
    delays: dict[str, dict[str, float]] = {}
    for event, publisher, latest in runner.delays:
        delays.setdefault(event, {})[publisher] = percentile(latest, 0.99) or 0.0
    return {
        "name": listener.name,
        "api": listener.api,
        "events": list(listener.events),
        "handled": dict(queue.handled_by),
        "failed_by": dict(queue.failed_by),
        "delay_p99": delays,
        "waiting": queue.backlog,
        "stopped": runner.stopped_by,
        **{what: queue.counts[what] for what in ("failed", "retried", "dropped", "invalid")},
    }


def _problems(parts: Parts) -> list[str]:
    problems = []
    if parts.binding.introductions.draining:
        problems.append("It is shutting down, and takes nothing new.")
    if parts.server.has_just_stalled:
        problems.append("Its event loop has just been blocked: by code that runs in it, or the process was stopped.")
    if (crowding := parts.binding.crowding) is not None:
        problems.append(crowding)
    if parts.server.queued:
        problems.append(f"{parts.server.queued} calls wait for their turn: worker.rpc_concurrency is reached.")
    if why_not := parts.why_not_kept():
        problems.append(f"{NOT_KEPT} {why_not}")
    problems += parts.put_by()
    for each in parts.consumer.runners:
        if each.stopped_by is not None:
            problems.append(
                f"The listener {each.listener} {HAS_STOPPED} {each.stopped_by}. "
                "Correct it, see `lightbus dead list`, and start the worker again."
            )
        elif each.queue.is_slow:
            problems.append(f"The listener {each.listener} does not keep up: {each.queue.backlog} events wait.")
    return problems


def _losses(parts: Parts) -> list[str]:
    losses = [
        f"The listener {each.listener} was too slow, and missed {each.queue.counts['dropped']} events."
        for each in parts.consumer.runners
        if each.queue.counts["dropped"]
    ]
    if gaps := parts.consumer.counts["gaps"]:
        losses.append(f"Events of best effort did not arrive here {gaps} times: this process reads too slowly.")
    return losses
