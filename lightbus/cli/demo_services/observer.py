"""Runs inside the demo's workers: reports to the demo what happens in them, and ends them when the demo ends.

Each observation is one line of JSON on standard output, and comes from a hook or the bus's own log.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
import time
from typing import Any

from ...client import BusClient
from ...message import EventMessage, ResultMessage, RpcMessage

__all__ = ["observe"]

STDIN = 0


def observe(client: BusClient) -> None:
    """Report what this worker does from now on; end it when standard input ends, which means the demo has ended."""
    observer = _ReportingHooks(client)
    client.before_rpc_call(observer.calls)
    client.after_rpc_call(observer.got_reply)
    client.after_rpc_execution(observer.served)
    client.after_event_sent(observer.fired)
    client.before_event_execution(observer.hears)
    logging.getLogger("lightbus.listeners").addHandler(_Subscriptions(observer))
    threading.Thread(target=_end_with_parent, name="demo-end", daemon=True).start()


def _end_with_parent() -> None:
    # Not sys.stdin: if a daemon thread holds its lock at the interpreter's exit, that is a fatal error.
    while os.read(STDIN, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)  # a running worker shuts down cleanly, one that is still starting ends at once


class _ReportingHooks:
    """The hooks. Any thread may call them: each line is written by a single call."""

    def __init__(self, client: BusClient) -> None:
        self._client = client
        self._began: dict[str, float] = {}

    def report(self, what: str, **facts: Any) -> None:
        """Write one observation."""
        print(json.dumps({"what": what, "at": time.time(), **facts}, default=repr) + "\n", end="", flush=True)

    def calls(self, rpc_message: RpcMessage) -> None:
        self._began[rpc_message.id] = time.perf_counter()
        peers = self._client.engine.snapshot.by_api.get(rpc_message.api_name, ())
        where = [peer.endpoint for peer in peers]
        self.report("calls", name=rpc_message.canonical_name, kwargs=rpc_message.kwargs, where=where)

    def got_reply(self, rpc_message: RpcMessage, result_message: ResultMessage) -> None:
        seconds = time.perf_counter() - self._began.pop(rpc_message.id)
        self.report("got reply", name=rpc_message.canonical_name, result=result_message.result, ms=seconds * 1000)

    def served(self, rpc_message: RpcMessage, result_message: ResultMessage) -> None:
        if not rpc_message.api_name.startswith("internal."):  # else the demo's own question about this worker
            self.report(
                "served", name=rpc_message.canonical_name, kwargs=rpc_message.kwargs, result=result_message.result
            )

    def fired(self, event_message: EventMessage) -> None:
        self.report("fired", name=event_message.canonical_name, kwargs=event_message.kwargs)

    def hears(self, event_message: EventMessage, listener_name: str) -> None:
        self.report(
            "hears",
            name=event_message.canonical_name,
            kwargs=event_message.kwargs,
            listener=listener_name,
            publisher=self.service_of(event_message.publisher),
            ms=(time.time() - event_message.published_at) * 1000,
        )

    def subscribed(self, instance: str) -> None:
        """Report which listeners are live at a peer."""
        peer = self._client.engine.snapshot.peers[instance]
        for listener in self._client.listeners:
            if peer.advertises(listener.api):
                self.report(
                    "listens",
                    listener=listener.name,
                    events=[f"{listener.api}.{event}" for event in listener.events],
                    where=peer.event_endpoint,
                    publisher=peer.announcement.service,
                )

    def service_of(self, instance: str) -> str:
        """Return the service that a peer belongs to."""
        peer = self._client.engine.snapshot.peers.get(instance)
        return peer.announcement.service if peer is not None else instance


class _Subscriptions(logging.Handler):
    """Learns from the log when a publisher has confirmed the subscriptions."""

    def __init__(self, observer: _ReportingHooks) -> None:
        super().__init__(logging.INFO)
        self._observer = observer

    def emit(self, record: logging.LogRecord) -> None:
        instance = getattr(record, "live_at", None)
        if instance is not None:
            self._observer.subscribed(instance)
