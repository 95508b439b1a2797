"""The reference's client: a plain blocking DEALER with msgpack. `raw_client MEASUREMENT ENDPOINT COUNT [PID]`."""

from __future__ import annotations

import sys
from time import monotonic, perf_counter
from typing import Any

import msgpack
import zmq

from .measure import CALL, IN_FLIGHT, MIB, latencies, megabytes_resident, percentiles, tell


class Caller:
    """One DEALER to one server; used by one thread."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self._dealer: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
        self._dealer.connect(endpoint)
        self._calls = 0

    def send(self, procedure: str, **arguments: Any) -> None:
        """Send a request under the next call id."""
        self._calls += 1
        body = msgpack.packb(["auth", procedure, arguments])
        self._dealer.send_multipart([self._calls.to_bytes(8, "big"), body])

    def receive(self) -> Any:
        """Wait for the next reply."""
        _, body = self._dealer.recv_multipart()
        return msgpack.unpackb(body)

    def call(self, procedure: str, **arguments: Any) -> Any:
        """Make one round trip."""
        self.send(procedure, **arguments)
        return self.receive()


def call(caller: Caller, count: int) -> dict[str, float]:
    """Measure blocking round trips, one after another."""
    return percentiles(latencies(lambda: caller.call("check_password", **CALL), count))


def in_flight(caller: Caller, count: int) -> dict[str, float]:
    """Measure calls per second with always `IN_FLIGHT` in progress."""
    began = perf_counter()
    for _ in range(IN_FLIGHT):
        caller.send("check_password", **CALL)
    for _ in range(count - IN_FLIGHT):
        caller.receive()
        caller.send("check_password", **CALL)
    for _ in range(IN_FLIGHT):
        caller.receive()
    return {"per_s": count / (perf_counter() - began)}


def echo(caller: Caller, count: int) -> dict[str, float]:
    """Measure megabytes per second in both directions, each counted once."""
    data = bytes(MIB)
    taken = latencies(lambda: caller.call("echo", data=data), count)
    return {"per_s": MIB / 1e6 * count / sum(taken)}


def cold(caller: Caller, count: int) -> dict[str, float]:
    """Return the time of the first reply on the clock that all processes share."""
    caller.call("check_password", **CALL)
    return {"replied_at": monotonic()}


def rss(caller: Caller, count: int) -> dict[str, float]:
    """Return the memory after `count` calls."""
    for _ in range(count):
        caller.call("check_password", **CALL)
    return {"rss_client": megabytes_resident()}


def crowd(caller: Caller, count: int, pid: str) -> dict[str, float]:
    """Connect `count` times at once; return the answers per second, and the server's memory for each in kB."""
    caller.call("check_password", **CALL)
    before = megabytes_resident(pid)
    began = perf_counter()
    callers = [Caller(caller.endpoint) for _ in range(count)]
    for each in callers:
        each.send("check_password", **CALL)
    for each in callers:
        each.receive()
    taken = perf_counter() - began
    return {"per_s": count / taken, "kb_each": (megabytes_resident(pid) - before) * 1000 / count}


MEASUREMENTS: dict[str, Any] = {function.__name__: function for function in (call, in_flight, echo, cold, rss, crowd)}

if __name__ == "__main__":
    measurement, endpoint, count, *more = sys.argv[1:]
    tell(MEASUREMENTS[measurement](Caller(endpoint), int(count), *more))
