"""The counts of a worker as metrics of Prometheus, read at each scrape. Nothing is counted here."""

from __future__ import annotations

import asyncio
import weakref
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from .. import __about__
from ..core.peers import PeerState
from ..engine.assembly import WorkerParts
from ..engine.events_api import EventsApi
from ..engine.worker import Worker
from ..rpc.statistics import BOUNDS, Usage

__all__ = ["WorkerCollector"]

ANSWER_TIMEOUT = 2.0
"""Seconds within which the worker's loop must report its groups, or they are left out of a scrape."""

REFUSED = ("busy", "draining", "standstill", "target")
ABANDONED = ("expired", "cancelled")

LISTENER_COUNTS = {
    "failed": "Events whose handler raised.",
    "retried": "Events to be delivered again because their handler raised.",
    "redelivered": "Events that were delivered again.",
    "dead_lettered": "Events stored as dead letters: after the last delivery, or because they do not fit.",
    "dropped": "Best-effort events that a slow listener missed.",
    "invalid": "Events that do not fit the listener.",
}


class WorkerCollector(Collector):
    """Reports on one worker at a time: the one started last."""

    def __init__(self) -> None:
        self._client: weakref.ref[Any] | None = None

    def watch(self, client: Any) -> None:
        """Report on the worker of this client from now on."""
        self._client = weakref.ref(client)

    def forget(self, client: Any) -> None:
        """Stop reporting on the worker of this client."""
        if self._client is not None and self._client() is client:
            self._client = None

    def describe(self) -> Iterable[Metric]:
        """Return no families: which ones there are depends on whether a worker runs."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Read the worker's counts. Any thread may call it: every collection is copied before it is iterated."""
        client = None if self._client is None else self._client()
        worker: Worker | None = None if client is None else client.worker
        if worker is None or worker.parts is None:
            return
        yield from _worker(worker)
        yield from _calls(worker, worker.parts)
        yield from _events(worker.parts)
        yield from _outbox(client)
        yield from _peers(worker)
        yield from _groups_and_journals(worker, worker.parts)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"lightbus_{name}", text, value=value)


def _worker(worker: Worker) -> Iterator[Metric]:
    me = worker.engine.identity
    info = GaugeMetricFamily(
        "lightbus_worker_info", "Which worker this is; always 1.", labels=["bus", "service", "process", "version"]
    )
    info.add_metric([me.bus, me.service, me.process, __about__.version()], 1)
    yield info
    text = "How many seconds late the worker's event loop is, or was at its last beat (four a second)."
    yield _gauge("loop_delay_seconds", text, worker.watchdog.delay)


def _calls(worker: Worker, parts: WorkerParts) -> Iterator[Metric]:
    server = parts.server
    durations = HistogramMetricFamily(
        "lightbus_call_duration_seconds",
        "How long calls took that this worker served, from arrival to answer, in seconds.",
        labels=["api", "procedure"],
    )
    errors = CounterMetricFamily(
        "lightbus_call_errors", "Calls that were answered with an error.", labels=["api", "procedure"]
    )
    for key, usage in sorted(server.log.usage.items()):
        durations.add_metric(key, _buckets(usage), usage.seconds)
        errors.add_metric(key, usage.errors)
    yield durations
    yield errors
    yield _by_reason(
        "calls_refused", "Calls that were not begun; `busy` is an overload.", REFUSED, server.counts, "refused_"
    )
    yield _by_reason("calls_abandoned", "Calls whose callers had given up.", ABANDONED, server.counts)
    yield CounterMetricFamily(
        "lightbus_loop_stalls", "How often the event loop was blocked for a second or more.", value=server.stall_count
    )
    yield _gauge("calls_running", "Calls in execution.", server.executing)
    yield _gauge("calls_queued", "Calls in the queue.", server.queued)
    yield _gauge("calls_limit", "The most calls executed at a time.", worker.engine.config.worker.rpc_concurrency)


def _buckets(usage: Usage) -> list[tuple[str, float]]:
    """Return the cumulative buckets of call durations, as Prometheus defines them."""
    count = 0
    buckets: list[tuple[str, float]] = []
    for bound, number in zip([*map(str, BOUNDS), "+Inf"], usage.within[:], strict=True):
        count += number
        buckets.append((bound, count))
    return buckets


def _by_reason(name: str, text: str, reasons: Sequence[str], counts: Counter[str], prefix: str = "") -> Metric:
    family = CounterMetricFamily(f"lightbus_{name}", text, labels=["reason"])
    for reason in reasons:
        family.add_metric([reason], counts[prefix + reason])
    return family


def _events(parts: WorkerParts) -> Iterator[Metric]:
    published = CounterMetricFamily("lightbus_events_published", "Events published.", labels=["api", "event"])
    text = "Bytes of the events published."
    size = CounterMetricFamily("lightbus_events_published_bytes", text, labels=["api", "event"])
    for key, count in sorted(parts.publisher.published.items()):
        published.add_metric(key, count)
        size.add_metric(key, parts.publisher.published_bytes[key])
    yield published
    yield size
    handled = CounterMetricFamily(
        "lightbus_events_handled", "Events whose handler returned.", labels=["api", "event", "listener"]
    )
    labels = ["api", "listener"]
    text = "Events in the queue of the listener."
    waiting = GaugeMetricFamily("lightbus_listener_waiting_events", text, labels=labels)
    stopped = GaugeMetricFamily(
        "lightbus_listener_stopped", "1 if the listener has stopped because its handler failed.", labels=labels
    )
    counted = {
        what: CounterMetricFamily(f"lightbus_events_{what}", text, labels=labels)
        for what, text in LISTENER_COUNTS.items()
    }
    for runner in list(parts.consumer.runners):
        listener, queue = runner.listener, runner.queue
        for event, count in sorted(queue.handled_by.items()):
            handled.add_metric([listener.api, event, listener.name], count)
        names = [listener.api, listener.name]
        waiting.add_metric(names, queue.backlog)
        stopped.add_metric(names, runner.stopped_by is not None)
        for what, family in counted.items():
            family.add_metric(names, queue.counts[what])
    yield from (handled, waiting, stopped, *counted.values())


def _outbox(client: Any) -> Iterator[Metric]:
    family = CounterMetricFamily(
        "lightbus_outbox_events_relayed", "Events of a database outbox that were fired here.", labels=["api", "event"]
    )
    for key, count in sorted(client.made_events.relayed.copy().items()):
        family.add_metric(key, count)
    yield family
    text = "How often the events of an outbox were fired though groups had not handled those of the process before."
    overtaken = CounterMetricFamily("lightbus_outbox_overtaken", text, labels=["api"])
    for api, count in sorted(client.made_events.overtaken.copy().items()):
        overtaken.add_metric([api], count)
    yield overtaken


def _peers(worker: Worker) -> Iterator[Metric]:
    me = worker.engine.identity.instance
    states = Counter(peer.state for peer in worker.engine.snapshot.peers.values() if peer.instance != me)
    family = GaugeMetricFamily("lightbus_peers", "Other processes on the bus, by state.", labels=["state"])
    for state in PeerState:
        family.add_metric([state.value], states[state])
    yield family


def _groups_and_journals(worker: Worker, parts: WorkerParts) -> Iterator[Metric]:
    """Yield the metrics of groups and journals, for which the loop and the disk must be asked."""
    api = next(each for each in parts.internal_apis if isinstance(each, EventsApi))
    found = _worker_answers(worker.loop, api)
    text = "1 if groups and journals are missing because the event loop did not report them in time."
    yield _gauge("scrape_incomplete", text, found is None)
    if found is None:
        return
    groups, journals = found
    labels = ["api", "group"]
    lag = GaugeMetricFamily(
        "lightbus_group_lag_events",
        "Events of this publisher that a group has not handled yet; sum it over all publishers.",
        labels=labels,
    )
    dead = GaugeMetricFamily("lightbus_group_dead_letters", "Dead letters of the group stored here.", labels=labels)
    lost = GaugeMetricFamily(
        "lightbus_group_lost_events", "Events that retention deleted before the group got them.", labels=labels
    )
    for group in groups:
        names = [group["api"], group["name"]]
        lag.add_metric(names, group["lag"] or 0)
        dead.add_metric(names, group["dead"])
        lost.add_metric(names, group["lost"])
    yield from (lag, dead, lost)
    yield _gauge(
        "journal_events", "Events that the journals served here hold.", sum(each["events"] for each in journals)
    )
    yield _gauge("journal_size_bytes", "Bytes of the journals served here.", sum(each["bytes"] for each in journals))
    full = max((_full(each) for each in journals), default=0.0)
    yield _gauge("journal_full_ratio", "How full the fullest journal is, relative to its limit: 0 to 1.", full)


def _full(journal: dict[str, Any]) -> float:
    bounds = (journal["events"], journal["max_events"]), (journal["bytes"], journal["max_bytes"])
    return max((held / bound for held, bound in bounds if bound), default=0.0)  # a bound of 0: no limit


def _worker_answers(
    loop: asyncio.AbstractEventLoop, api: EventsApi
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]] | None:
    """Return the worker's groups and journals; None if it does not answer in time, or if this is its own loop."""

    async def ask() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        return await api.groups(), await api.journals()

    if asyncio._get_running_loop() is loop or loop.is_closed():
        return None
    asked = asyncio.run_coroutine_threadsafe(ask(), loop)
    try:
        return asked.result(ANSWER_TIMEOUT)
    except (TimeoutError, asyncio.CancelledError, RuntimeError):
        asked.cancel()
        return None
