"""Watchers of a worker's calls: which calls are kept for them, for how long, and which are only counted."""

from __future__ import annotations

import bisect
from typing import Any

import pytest

from lightbus.exceptions import DeformError, PeerBusy, ProtocolError
from lightbus.rpc import trace
from lightbus.rpc.trace import LEASE, MAX_VALUE, CallWatch, WatchedCall
from lightbus.wire import codec, envelope
from lightbus.wire.envelope import AnyMessage, Error, Request, Result


def request(api: str = "auth", **kwargs: Any) -> Request:
    """Return a request."""
    return Request("0" * 16, api, "check", 5.0, "1" * 16, [], None, 0, kwargs)


def note(watch: CallWatch, now: float = 0.0, answer: AnyMessage | None = None, **kwargs: Any) -> None:
    """Let a call be answered."""
    asked = request(**kwargs)
    arguments = watch.arguments_of(asked)
    assert arguments is not None
    frame = envelope.encode(Result(None) if answer is None else answer, 7)
    watch.note(now, WatchedCall(asked, "shop", 1000.0, 0.25, arguments, frame))


def numbers(told: dict[str, Any]) -> list[int]:
    """Return the numbers of the reported calls."""
    return [call["number"] for call in told["calls"]]


def test_nothing_is_kept_without_a_watcher() -> None:
    """Without a watcher, a call causes no work; nor does a call of an internal API."""
    watch = CallWatch()
    assert not watch.is_on
    assert watch.arguments_of(request()) is None
    watch.take(0.0, "one", 0)
    assert watch.is_on
    assert watch.arguments_of(request()) is not None
    assert watch.arguments_of(request("internal.peer")) is None
    watch.end("one")
    watch.end("one")  # twice does no harm
    assert not watch.is_on


def test_a_call_is_reported() -> None:
    """With its arguments as they were at the call, its caller, times and result."""
    watch = CallWatch()
    watch.take(0.0, "one", 0)
    asked = request(names=["sally"])
    arguments = watch.arguments_of(asked)
    asked.kwargs["names"].clear()  # as a handler may
    assert arguments is not None
    watch.note(0.0, WatchedCall(asked, "shop", 1000.0, 0.25, arguments, envelope.encode(Result([1]), 7)))
    [call] = watch.take(1.0, "one", 0)["calls"]
    assert call.pop("kwargs_bytes") > 0
    assert call.pop("result_bytes") > 0
    assert call == {
        "number": 1, "at": 1000.0, "seconds": 0.25, "caller": "1" * 16, "caller_service": "shop",
        "api": "auth", "procedure": "check", "kwargs": {"names": ["sally"]}, "result": [1],
        "error": None, "message": None, "cut": [],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Error("worker_error", "auth.check raised E: no", True, {"type": "m.E"}), ("m.E", "auth.check raised E: no")),
        (Error("peer_busy", "too much", False, {}), ("peer_busy", "too much")),
    ],
)
def test_trace_names_the_error_type_or_code(answer: Error, error: tuple[str, str]) -> None:
    """The type of the handler's exception is reported, or the code of one of our errors, with its text."""
    watch = CallWatch()
    watch.take(0.0, "one", 0)
    note(watch, answer=answer)
    [call] = watch.take(0.0, "one", 0)["calls"]
    assert (call["error"], call["message"], call["result"]) == (*error, None)


def test_a_cancelled_call() -> None:
    """A call that was not answered has no result."""
    watch = CallWatch()
    watch.take(0.0, "one", 0)
    watch.note(0.0, WatchedCall(request(), "shop", 1000.0, 0.25, b"\x80", b""))
    [call] = watch.take(0.0, "one", 0)["calls"]
    assert (call["error"], call["kwargs"], call["cut"]) == ("cancelled", {}, [])


def test_each_watcher_has_its_own_queue() -> None:
    """Calls that one watcher has read are still reported to the other; confirmed ones are dropped."""
    watch = CallWatch()
    watch.take(0.0, "one", 0)
    note(watch)
    watch.take(0.0, "two", 0)
    note(watch)
    assert numbers(watch.take(0.0, "one", 0)) == [1, 2]
    assert numbers(watch.take(0.0, "one", 0)) == [1, 2]
    assert watch.take(0.0, "one", 2) == {"calls": [], "noted": 2}
    assert numbers(watch.take(0.0, "two", 0)) == [1]


def test_a_lease_ends() -> None:
    """A watcher that does not ask is dropped with the next call, or with the next request of another watcher."""
    watch = CallWatch()
    watch.take(0.0, "one", 0)
    note(watch, LEASE)
    assert numbers(watch.take(LEASE, "one", 0)) == [1]  # in time, and renewed
    note(watch, 2 * LEASE)
    assert watch.is_on
    note(watch, 2 * LEASE + 0.1)
    assert not watch.is_on
    assert watch.take(2 * LEASE + 0.2, "one", 2) == {"calls": [], "noted": 0}  # it begins anew
    watch.take(9 * LEASE, "two", 0)
    watch.end("two")
    assert not watch.is_on


def test_calls_over_the_limit_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more calls and bytes are kept than the limits allow; the numbers show the missing ones."""
    watch = CallWatch()
    watch.take(0.0, "one", 0)
    monkeypatch.setattr(trace, "MAX_CALLS", 2)
    for _ in range(5):
        note(watch)
    told = watch.take(0.0, "one", 0)
    assert (numbers(told), told["noted"]) == ([1, 2], 5)
    assert numbers(watch.take(0.0, "one", 5)) == []
    note(watch)  # there is room again
    assert numbers(watch.take(0.0, "one", 5)) == [6]
    watch.take(0.0, "one", 6)
    monkeypatch.setattr(trace, "MAX_BYTES", 100)
    note(watch, value="x" * 60)
    note(watch, value="x" * 60)
    told = watch.take(0.0, "one", 6)
    assert (numbers(told), told["noted"]) == ([7], 8)


def test_large_values_are_left_out() -> None:
    """Of a value with too many bytes only the size is kept."""
    watch = CallWatch()
    watch.take(0.0, "one", 0)
    note(watch, answer=Result("x" * MAX_VALUE), value="x" * MAX_VALUE)
    [call] = watch.take(0.0, "one", 0)["calls"]
    assert (call["kwargs"], call["result"], call["cut"]) == (None, None, ["kwargs", "result"])
    assert call["kwargs_bytes"] > MAX_VALUE
    assert call["result_bytes"] > MAX_VALUE


def test_deep_values_are_left_out() -> None:
    """A value as deeply nested as a message may be cannot be part of another message; it does not spoil the rest."""

    def nested(levels: int) -> list[Any]:
        value: list[Any] = []
        for _ in range(levels):
            value = [value]
        return value

    def goes_through(value: Any) -> bool:
        try:
            codec.decode(codec.encode(value))
        except (DeformError, ProtocolError):
            return False
        return True

    too_deep = bisect.bisect_left(range(2000), True, key=lambda n: not goes_through([0, {"value": nested(n)}]))
    deepest = too_deep - 1
    watch = CallWatch()
    watch.take(0.0, "one", 0)
    note(watch, answer=Result(nested(deepest)), value=nested(deepest))
    note(watch, answer=Result(nested(300)), value=nested(300))
    note(watch, answer=Result(nested(deepest + 1)))
    told = watch.take(0.0, "one", 0)
    assert [call["cut"] for call in told["calls"]] == [["kwargs", "result"], [], ["result"]]
    assert goes_through([told])  # as a result is sent


def test_watchers_are_bounded() -> None:
    """One too many is refused without effect on the others; a watcher whose lease has ended makes room."""
    watch = CallWatch()
    for number in range(trace.MAX_WATCHERS):
        watch.take(0.0, str(number), 0)
    with pytest.raises(PeerBusy, match="watch the calls of this worker already"):
        watch.take(0.0, "more", 0)
    watch.take(1.0, "0", 0)
    watch.take(LEASE + 0.5, "more", 0)
    note(watch, LEASE + 0.5)
    assert numbers(watch.take(LEASE + 0.5, "0", 0)) == numbers(watch.take(LEASE + 0.5, "more", 0)) == [1]
