"""The path of a request through a worker: every request is answered, and none stops the worker."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import weakref
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import pytest

from helpers import MS, wait_until, wait_until_async
from helpers.failing import ODD
from lightbus.config import Config
from lightbus.deadline import Deadline, current_call, current_chain
from lightbus.engine.threads import HandlerThreads
from lightbus.exceptions import InvalidParameters, JournalError, UnknownApi
from lightbus.membership.context import MAX_CHAIN, Identity
from lightbus.message import ResultMessage, RpcMessage
from lightbus.rpc import places
from lightbus.rpc.job import MAX_DECODED_BYTES
from lightbus.rpc.places import MAX_MEMORY
from lightbus.rpc.server import STALL_GRACE, Server
from lightbus.service.api import Api, ApiRegistry
from lightbus.service.failures import MAX_TRACE, PACKAGE
from lightbus.service.hooks import HookRegistry
from lightbus.wire import envelope
from lightbus.wire.envelope import AnyMessage, Error, Request, Result

ME = "a" * 16
CALLER = "c" * 16


@dataclass
class Point:
    x: int
    y: int


class Large(list[int]):
    """A list that can be weakly referenced, to see whether it still exists."""


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


def undecorated(function: Callable[..., Any]) -> Callable[..., Any]:
    """Hide that a function is an `async def`, as careless decorators do."""

    def wrapper(self: Any, value: Any = None) -> Any:
        return function(self, value)

    return wrapper


class Worked(Api):
    """Handlers of every kind; `gate` blocks those that wait."""

    class Meta:
        name = "work"

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.thread_gate = threading.Event()
        self.started: list[int] = []
        self.chain: tuple[str, ...] = ()
        self.deadline: Deadline | None = None

    async def echo(self, value: Any = None) -> Any:
        return value

    def echo_in_thread(self, value: Any = None) -> Any:
        return [threading.current_thread().name, value]

    @undecorated
    async def hidden(self, value: Any = None) -> Any:
        await asyncio.sleep(0)
        return [threading.current_thread().name, value]

    async def add(self, one: int, other: int) -> int:
        return one + other

    async def typed(self, point: Point) -> str:
        return f"{type(point).__name__} {point.x}"

    async def promise(self) -> int:
        return "no number"  # type: ignore[return-value]

    async def wait(self, number: int = 0) -> str:
        self.chain = current_chain()
        self.started.append(number)
        await self.gate.wait()
        return "done"

    def wait_in_thread(self, number: int = 0) -> str:
        self.started.append(number)
        self.thread_gate.wait(60)
        return "done"

    async def context(self) -> None:
        self.chain = current_chain()
        inherited = current_call.get()
        self.deadline = None if inherited is None else inherited.deadline

    def context_in_thread(self) -> None:
        self.chain = current_chain()
        inherited = current_call.get()
        self.deadline = None if inherited is None else inherited.deadline

    async def fail(self, kind: str) -> None:
        raise ERRORS[kind]()

    def fail_in_thread(self, kind: str) -> None:
        raise ERRORS[kind]()


class Inner(Api):
    class Meta:
        name = "internal.inner"
        internal = True

    async def ping(self) -> str:
        return "pong"


ERRORS: dict[str, Callable[[], BaseException]] = {
    "plain": lambda: ValueError("no", 7),
    "ours": lambda: UnknownApi("nobody there"),
    "arguments": lambda: InvalidParameters("of a nested call"),
    "disk": lambda: JournalError("The journal j cannot be written: full. The disk is full: make room."),
    "exit": lambda: SystemExit(3),
    "interrupt": KeyboardInterrupt,
    "cancelled": lambda: asyncio.CancelledError("my own"),
    "unserialisable": lambda: ValueError(object()),
    "surrogate": lambda: ValueError("caf\udce9"),
    "unprintable": lambda: Unprintable(object()),
    "large": lambda: ValueError("x" * 200_000),
}


class Bench:
    """A server whose replies are recorded."""

    def __init__(self, executor: HandlerThreads, *, serves_calls: bool = True, **settings: Any) -> None:
        self.api = Worked()
        self.hooks = HookRegistry()
        self.replies: list[tuple[bytes, int, AnyMessage]] = []
        self.sizes: list[int] = []
        apis = ApiRegistry()
        apis.add(self.api)
        apis.add(Inner())
        self.server = Server(
            identity=Identity(bus="b", service="s", process="p", instance=ME, host="h"),
            config=Config(**settings),
            apis=apis,
            hooks=self.hooks,
            client="the client",
            executor=executor,
            reply=self.reply,
            reply_from_thread=self.reply,
            serves_calls=serves_calls,
        )
        self.calls = 0

    def reply(self, routing_id: bytes, frame: bytes) -> bool:
        self.sizes.append(len(frame))
        self.replies.append((routing_id, *envelope.decode(frame)))
        return True

    def request(self, procedure: str, call_id: int = 0, *, by: bytes = b"one", **kwargs: Any) -> int:
        """Let a request arrive, and return its call id. Fields of the envelope are given as `_name`."""
        self.calls += 1
        call_id = call_id or self.calls
        fields = {
            "target": ME,
            "api": "work",
            "procedure": procedure,
            "left": 5.0,
            "caller": CALLER,
            "chain": [],
            "trace": None,
            "stall_count": 0,
            "kwargs": {name: value for name, value in kwargs.items() if not name.startswith("_")},
            **{name[1:]: value for name, value in kwargs.items() if name.startswith("_")},
        }
        self.server.handle(by, call_id, Request(**fields))
        return call_id

    async def answer(self, call_id: int) -> AnyMessage:
        """Return the reply to a call, once it is sent."""
        found = await wait_until_async(
            lambda: [message for _, replied, message in self.replies if replied == call_id], what=f"answer to {call_id}"
        )
        assert len(found) == 1
        return found[0]

    async def error(self, procedure: str, **kwargs: Any) -> Error:
        """Return the error that answers a request."""
        message = await self.answer(self.request(procedure, **kwargs))
        assert isinstance(message, Error)
        return message

    async def value(self, procedure: str, **kwargs: Any) -> Any:
        """Return the value that answers a request."""
        message = await self.answer(self.request(procedure, **kwargs))
        assert isinstance(message, Result), message
        return message.value


@contextmanager
def threads(count: int) -> Iterator[HandlerThreads]:
    """Return threads for `def` handlers."""
    executor = HandlerThreads(count)
    yield executor
    executor.shutdown()


def serve(test: Callable[[Bench], Coroutine[Any, Any, None]], **settings: Any) -> None:
    """Run a test with a server; nothing may be left running or queued afterwards."""

    async def main() -> None:
        with threads(4) as executor:
            bench = Bench(executor, **settings)
            try:
                await test(bench)
            finally:
                bench.api.gate.set()
                bench.api.thread_gate.set()
            assert await bench.server.finish(5.0) == 0
            assert bench.server.running == 0

    asyncio.run(main())


@contextmanager
def quiet() -> Iterator[None]:
    """Keep log messages about failing handlers out of the output."""
    log = logging.getLogger("lightbus.serving")
    log.disabled = True
    yield
    log.disabled = False


def small(concurrency: int = 1, queue: int = 1) -> dict[str, Any]:
    """Return settings of a worker that is soon full."""
    return {"worker": {"rpc_concurrency": concurrency, "rpc_queue": queue}}


# Execution


@pytest.mark.parametrize("value", [None, 7, "text", [1, {"a": b"b"}]])
def test_a_result_is_sent_back(value: Any) -> None:
    """The reply goes to the sender of the request, under its call id."""

    async def test(bench: Bench) -> None:
        call_id = bench.request("echo", 77, by=b"somebody", value=value)
        assert await bench.answer(call_id) == Result(value)
        assert bench.replies[0][:2] == (b"somebody", 77)
        assert bench.server.counts["served"] == 1

    serve(test)


def test_a_plain_function_runs_in_a_thread() -> None:
    """A `def` handler does not block the loop."""

    async def test(bench: Bench) -> None:
        name, value = await bench.value("echo_in_thread", value=3)
        assert name != threading.current_thread().name
        assert value == 3

    serve(test)


def test_a_decorated_async_function_is_awaited() -> None:
    """An `async def` that a decorator hides is awaited on the loop as well."""

    async def test(bench: Bench) -> None:
        assert await bench.value("hidden", value=4) == [threading.current_thread().name, 4]

    serve(test)


def test_arguments_are_cast_to_annotations() -> None:
    """A map becomes the dataclass; with `cast_values: false` it stays a map."""

    async def cast(bench: Bench) -> None:
        assert await bench.value("typed", point={"x": 1, "y": 2}) == "Point 1"

    async def plain(bench: Bench) -> None:
        with quiet():
            assert "'dict' object has no attribute 'x'" in (await bench.error("typed", point={"x": 1, "y": 2})).message

    serve(cast)
    serve(plain, apis={"default": {"cast_values": False}})


@pytest.mark.parametrize("procedure", ["context", "context_in_thread"])
@pytest.mark.parametrize("chain", [[], ["b" * 16]])
def test_a_handler_inherits_deadline_and_chain(procedure: str, chain: list[str]) -> None:
    """Calls of the handler have the deadline of its own caller, and the chain of callers; nothing remains later."""

    async def test(bench: Bench) -> None:
        await bench.value(procedure, _chain=chain, _left=2.0)
        assert bench.api.chain[:-1] == (*chain,)
        assert bench.api.chain[-1].startswith(f"{ME}:")
        assert bench.api.deadline is not None
        assert 0.0 < bench.api.deadline.left() <= 2.0
        assert current_chain() == ()
        assert current_call.get() is None

    serve(test)


# Refusals


def test_a_request_for_another_instance_is_refused() -> None:
    """A restarted worker at the old address does not answer for its predecessor; another peer may be asked."""

    async def test(bench: Bench) -> None:
        error = await bench.error("echo", _target="f" * 16)
        assert (error.code, error.started, error.details) == ("peer_refused", False, {"elsewhere": True})
        assert "meant for the instance ffff" in error.message
        assert bench.server.counts["refused_target"] == 1

    serve(test)


def test_unknown_names_are_errors() -> None:
    """The error for a missing API or procedure suggests similar names, and no other peer is asked."""

    async def test(bench: Bench) -> None:
        api = await bench.error("echo", _api="wrok")
        procedure = await bench.error("ecko")
        assert (api.code, api.started, api.details) == ("unknown_api", False, {})
        assert (procedure.code, procedure.started) == ("unknown_procedure", False)
        assert "Did you mean 'work'?" in api.message
        assert "Did you mean 'echo'?" in procedure.message

    serve(test)


@pytest.mark.parametrize("name", ["gate", "meta", "__init__", "_declared", "get_procedure"])
def test_only_procedures_can_be_called(name: str) -> None:
    """Attributes, private names and the members of every Api cannot be called."""

    async def test(bench: Bench) -> None:
        assert (await bench.error(name)).code == "unknown_procedure"

    serve(test)


@pytest.mark.parametrize(
    ("kwargs", "code", "text"),
    [
        ({"one": 1}, "validation_error", "needs the argument 'other'"),
        ({"one": 1, "other": 2, "third": 3}, "validation_error", "has no parameter 'third'"),
        ({"one": 1, "other": "two"}, "validation_error", "other is 'two'"),
    ],
)
def test_wrong_arguments_are_errors(kwargs: dict[str, Any], code: str, text: str) -> None:
    """The error says what is wrong and how the procedure is declared; nothing was executed."""

    async def test(bench: Bench) -> None:
        error = await bench.error("add", **kwargs)
        assert (error.code, error.started, error.details) == (code, False, {})
        assert text in error.message
        assert "add(one: int, other: int) -> int" in error.message
        assert bench.server.counts["failed"] == 0

    serve(test)


def test_validation_can_be_disabled() -> None:
    """With `validate: false` the handler gets the arguments as sent, and its result is not checked."""

    async def test(bench: Bench) -> None:
        assert await bench.value("add", one="a", other="b") == "ab"
        assert await bench.value("promise") == "no number"

    serve(test, apis={"default": {"validate": False, "cast_values": False}})


def test_a_worker_without_rpcs() -> None:
    """A worker without the feature `rpcs` leaves calls to other peers, and answers internal calls."""

    async def test(bench: Bench) -> None:
        error = await bench.error("echo")
        assert (error.code, error.started, error.details) == ("peer_unreachable", False, {"elsewhere": True})
        assert "runs without the feature 'rpcs'" in error.message
        assert await bench.value("ping", _api="internal.inner") == "pong"

    serve(test, serves_calls=False)


def test_a_busy_worker_answers_internal_calls() -> None:
    """Internal calls neither wait for a place nor take one: busy workers are queried most."""

    async def test(bench: Bench) -> None:
        running, queued = bench.request("wait"), bench.request("wait")
        assert await bench.value("ping", _api="internal.inner") == "pong"
        assert (bench.server.running, bench.server.queued) == (1, 1)
        bench.api.gate.set()
        for call_id in (running, queued):
            await bench.answer(call_id)

    serve(test, **small())


def test_refusals_are_shown_to_watchers() -> None:
    """Calls that were refused, or that their callers cancelled, are reported; those before the watch are not."""

    async def test(bench: Bench) -> None:
        watch = bench.server.log.watch
        before = bench.request("wait")
        watch.take(time.monotonic(), "one", 0)
        queued = bench.request("wait")
        await bench.error("wait")
        await bench.error("nothing")
        bench.api.gate.set()
        for call_id in (before, queued):
            await bench.answer(call_id)
        told = watch.take(time.monotonic(), "one", 0)["calls"]
        assert [(call["procedure"], call["error"]) for call in told] == [
            ("wait", "peer_busy"), ("nothing", "unknown_procedure"), ("wait", None),
        ]  # fmt: skip

    serve(test, **small())


def test_too_many_nested_calls_are_refused() -> None:
    """A circle of calls through several processes ends with an error, and no other peer is asked."""

    async def test(bench: Bench) -> None:
        error = await bench.error("echo", _chain=["b" * 16] * MAX_CHAIN)
        assert (error.code, error.started, error.details) == ("peer_refused", False, {})
        assert "32 calls deep" in error.message
        assert await bench.value("echo", value=1, _chain=["b" * 16] * (MAX_CHAIN - 1)) == 1

    serve(test)


def test_a_request_without_time_left_is_dropped() -> None:
    """Its caller has given up already, so it is neither executed nor answered."""

    async def test(bench: Bench) -> None:
        bench.request("wait", _left=0.0)
        bench.request("wait", _left=-1.0)
        await bench.value("echo")
        assert bench.api.started == []
        assert len(bench.replies) == 1
        assert bench.server.counts["expired"] == 2

    serve(test)


def test_time_left_may_be_any_number() -> None:
    """An absurd number from a foreign peer does no harm."""

    async def test(bench: Bench) -> None:
        assert await bench.value("echo", value=1, _left=10**400) == 1
        assert await bench.value("echo", value=2, _left=float("nan")) == 2

    serve(test)


# Admission


@pytest.mark.parametrize("procedure", ["wait", "wait_in_thread"])
def test_calls_run_up_to_the_concurrency_limit(procedure: str) -> None:
    """Above `rpc_concurrency` requests wait; above `rpc_queue` they are refused, so that another peer takes them."""

    async def test(bench: Bench) -> None:
        calls = [bench.request(procedure, number=number) for number in range(5)]
        busy = await bench.answer(calls[4])
        assert isinstance(busy, Error)
        assert (busy.code, busy.started, busy.details) == ("peer_busy", False, {"elsewhere": True})
        assert "runs 2 calls and has 2 waiting" in busy.message
        assert bench.server.counts["refused_busy"] == 1
        await wait_until_async(lambda: sorted(bench.api.started) == [0, 1])
        assert bench.server.running == 2
        bench.api.gate.set()
        bench.api.thread_gate.set()
        assert [await bench.answer(call) for call in calls[:4]] == [Result("done")] * 4
        assert bench.api.started[2:] in ([2, 3], [3, 2])

    serve(test, **small(concurrency=2, queue=2))


def test_the_queue_is_served_in_order() -> None:
    """The call that arrived first starts first."""

    async def test(bench: Bench) -> None:
        calls = [bench.request("wait", number=number) for number in range(6)]
        bench.api.gate.set()
        for call in calls:
            await bench.answer(call)
        assert bench.api.started == [0, 1, 2, 3, 4, 5]

    serve(test, **small(concurrency=1, queue=9))


@pytest.mark.parametrize("procedure", ["echo", "echo_in_thread"])
def test_a_call_back_into_the_same_process_has_a_place(procedure: str) -> None:
    """A nested call that waited behind the call that waits for it would be a deadlock; so it does not wait."""

    async def test(bench: Bench) -> None:
        outer = bench.request("wait")
        await wait_until_async(lambda: bench.api.started == [0])
        waiting = bench.request("echo", value="waits")
        nested = bench.request(procedure, value="nested", _chain=[*bench.api.chain, "b" * 16])
        assert isinstance(await bench.answer(nested), Result)
        assert [call_id for _, call_id, _ in bench.replies] == [nested]
        assert bench.server.running == 1
        bench.api.gate.set()
        assert await bench.answer(outer) == Result("done")
        assert await bench.answer(waiting) == Result("waits")

    serve(test, **small())


@pytest.mark.parametrize("chain", [[ME], [f"{ME}:{'0' * 16}"], ["b" * 16, ME, ME]])
def test_a_forged_chain_has_no_effect(chain: list[str]) -> None:
    """A caller that names this process without having been called by it waits like any other."""

    async def test(bench: Bench) -> None:
        outer = bench.request("wait")
        await wait_until_async(lambda: bench.api.started == [0])
        claims = bench.request("echo", value="claims", _chain=chain)
        assert bench.server.queued == 1
        bench.api.gate.set()
        assert await bench.answer(outer) == Result("done")
        assert await bench.answer(claims) == Result("claims")

    serve(test, **small())


def test_a_mark_is_invalid_once_its_call_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that was called by this process may call back while that call lasts, a limited number of times."""
    monkeypatch.setattr(places, "MAX_NESTED", 1)

    async def test(bench: Bench) -> None:
        outer = bench.request("wait")
        await wait_until_async(lambda: bench.api.started == [0])
        chain = [*bench.api.chain]
        back = bench.request("wait", number=1, _chain=chain)
        await wait_until_async(lambda: bench.api.started == [0, 1])
        assert (await bench.error("echo", _chain=chain)).code == "peer_busy"
        bench.api.gate.set()
        assert [await bench.answer(each) for each in (outer, back)] == [Result("done")] * 2
        assert bench.server._places.marks == {}
        bench.api.gate.clear()
        bench.request("wait", number=2)
        late = bench.request("echo", value="late", _chain=chain)
        assert bench.server.queued == 1
        bench.api.gate.set()
        assert await bench.answer(late) == Result("late")

    serve(test, **small())


def test_a_call_with_the_id_of_an_open_call() -> None:
    """It is refused, and the earlier call is counted, waited for and cancelled as before."""

    async def test(bench: Bench) -> None:
        bench.request("wait", 7)
        await wait_until_async(lambda: bench.api.started == [0])
        for _ in range(3):
            bench.request("wait", 7, number=1)
        refusals = [message for _, _, message in bench.replies]
        assert [getattr(each, "code", None) for each in refusals] == ["peer_refused"] * 3
        assert (bench.server.executing, bench.server.running, bench.server.queued) == (1, 1, 0)
        bench.request("echo", 7, by=b"another")  # its connection's ids are its own
        assert (bench.server.executing, bench.server.queued) == (1, 1)
        bench.server.cancel(b"one", 7)
        await wait_until_async(lambda: bench.server.executing == 0, what="the first one is cancelled")
        assert bench.api.started == [0]

    serve(test, **small())


def test_internal_calls_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """They need no place, and are refused above their own limit."""
    monkeypatch.setattr(places, "MAX_INTERNAL", 2)

    async def test(bench: Bench) -> None:
        asked = [bench.request("ping", _api="internal.inner") for _ in range(3)]
        refusal = await bench.answer(asked[2])
        assert isinstance(refusal, Error)
        assert (refusal.code, refusal.details) == ("peer_busy", {"elsewhere": True})
        assert [isinstance(await bench.answer(each), Result) for each in asked[:2]] == [True, True]
        assert isinstance(await bench.answer(bench.request("ping", _api="internal.inner")), Result)

    serve(test)


def test_the_queue_is_bounded_in_bytes() -> None:
    """A few large requests fill the queue as many small ones do; one may always wait."""

    async def test(bench: Bench) -> None:
        bench.request("wait")
        large = Request(ME, "work", "echo", 5.0, CALLER, [], None, 0, {"value": b"x" * 40 * 1024 * 1024})
        frame = envelope.encode(large, 1)
        bench.server.handle(b"peer", 1001, large, frame)
        bench.server.handle(b"peer", 1002, large, frame)
        assert bench.server.queued == 1
        refused = await bench.answer(1002)
        assert isinstance(refused, Error)
        assert f"1 calls of {len(frame)} bytes waiting" in refused.message
        bench.server.cancel(b"peer", 1001)
        bench.server.handle(b"peer", 1003, large, frame)
        assert bench.server.queued == 1
        bench.api.gate.set()
        assert await bench.answer(1003) == Result(large.kwargs["value"])

    serve(test, **small(concurrency=1, queue=9))


def test_calls_wait_for_memory() -> None:
    """A call that needs more memory than is left waits although there is a place; a single call is always executed."""

    async def test(bench: Bench) -> None:
        requests = {number: Request(ME, "work", "wait", 5.0, CALLER, [], None, 0, {}) for number in (1, 2, 3)}
        bench.server.handle(b"peer", 1, requests[1], memory=2 * MAX_MEMORY)
        assert (bench.server.executing, bench.server.queued) == (1, 0)
        for number in (2, 3):
            bench.server.handle(b"peer", number, requests[number], memory=MAX_MEMORY // 2)
        assert (bench.server.executing, bench.server.queued) == (1, 2)
        refused = await bench.answer(bench.request("ping", _api="internal.inner"))
        assert isinstance(refused, Error)
        assert "256 MiB of memory" in refused.message
        bench.server.cancel(b"peer", 1)
        await wait_until_async(lambda: bench.server.executing == 2)
        bench.api.gate.set()
        for number in (2, 3):
            assert await bench.answer(number) == Result("done")
        assert bench.server._places._memory == 0

    serve(test, **small(concurrency=9, queue=9))


def test_a_waiting_call_keeps_no_decoded_arguments() -> None:
    """Otherwise it would be counted by its bytes, and take sixty times as much."""

    async def test(bench: Bench) -> None:
        bench.request("wait")
        request = Request(ME, "work", "echo", 5.0, CALLER, [], None, 0, {"value": Large([0] * MAX_DECODED_BYTES)})
        arguments = weakref.ref(request.kwargs["value"])
        bench.server.handle(b"peer", 1001, request, envelope.encode(request, 1001))
        del request
        assert arguments() is None
        bench.api.gate.set()
        await bench.answer(1001)

    serve(test, **small(concurrency=1, queue=9))


def test_a_large_call_is_decoded_again_when_it_starts() -> None:
    """A list of lists takes sixty times the memory of its bytes, and only the bytes are counted."""

    async def test(bench: Bench) -> None:
        bench.request("wait")
        rows = [[number] for number in range(MAX_DECODED_BYTES)]
        request = Request(ME, "work", "echo", 5.0, CALLER, [], None, 0, {"value": rows})
        bench.server.handle(b"peer", 1001, request, envelope.encode(request, 1001))
        assert [job.request.kwargs for job in bench.server._places.waiting] == [{}]
        bench.api.gate.set()
        assert await bench.answer(1001) == Result(rows)

    serve(test, **small(concurrency=1, queue=9))


@pytest.mark.parametrize("procedure", ["wait", "wait_in_thread"])
def test_a_call_that_would_wait_too_long_is_refused_at_once(procedure: str) -> None:
    """It was not started, so its caller asks another worker while there is still time."""

    async def test(bench: Bench) -> None:
        admission = bench.server._places._admission
        for number in range(20):
            admission.finished(0.5, number)
        bench.request(procedure)
        assert bench.request("echo", value="waits")
        refused = await bench.answer(bench.request("echo", value="would wait"))
        assert isinstance(refused, Error)
        assert (refused.code, refused.started, refused.details) == ("peer_busy", False, {"elsewhere": True})
        assert "cannot begin a further one soon enough" in refused.message
        assert bench.server.counts["refused_busy"] == 1
        bench.api.gate.set()
        bench.api.thread_gate.set()

    worker = {"rpc_concurrency": 1, "max_queue_time": 0.7}
    serve(test, worker=worker)


def test_a_deadline_that_passed_in_the_queue() -> None:
    """A request whose caller has given up is not executed when its turn comes; those behind it are."""

    async def test(bench: Bench) -> None:
        first = bench.request("wait", number=1)
        late = bench.request("wait", number=2, _left=10 * MS)
        last = bench.request("wait", number=3)
        await asyncio.sleep(20 * MS)
        bench.api.gate.set()
        assert await bench.answer(first) == Result("done")
        assert await bench.answer(last) == Result("done")
        assert bench.api.started == [1, 3]
        assert bench.server.counts["expired"] == 1
        assert late not in [call_id for _, call_id, _ in bench.replies]

    serve(test, **small(queue=5))


# Draining and standstill


def test_a_draining_worker_accepts_no_new_calls() -> None:
    """Running calls are finished; new ones are left to other peers."""

    async def test(bench: Bench) -> None:
        running = bench.request("wait")
        bench.server.drain()
        error = await bench.error("echo")
        assert (error.code, error.started) == ("peer_busy", False)
        assert error.details == {"elsewhere": True, "leaving": True}
        assert bench.server.counts["refused_draining"] == 1
        bench.api.gate.set()
        assert await bench.answer(running) == Result("done")

    serve(test)


def test_calls_that_waited_during_a_stall_are_refused() -> None:
    """Their age is unknown, so they must be sent again, with a number that proves them to be fresh."""

    async def test(bench: Bench) -> None:
        bench.server.loop_stalled(time.monotonic())
        error = await bench.error("echo")
        assert (error.code, error.started, error.details) == ("peer_busy", False, {"elsewhere": True, "epoch": 1})
        assert await bench.value("echo", value=1, _stall_count=1) == 1
        bench.server.loop_stalled(time.monotonic())
        assert (await bench.error("echo", _stall_count=1)).details["epoch"] == 2
        assert bench.server.counts["refused_standstill"] == 2

    serve(test)


def test_a_stall_is_over_after_a_while() -> None:
    """Some time after a stall, no old request can arrive any more."""

    async def test(bench: Bench) -> None:
        bench.server.loop_stalled(time.monotonic() - STALL_GRACE)
        assert await bench.value("echo", value=1) == 1

    serve(test)


# Cancelling


def test_a_running_handler_is_cancelled() -> None:
    """An `async def` handler that awaits is interrupted, and no reply is sent."""

    async def test(bench: Bench) -> None:
        call = bench.request("wait")
        await wait_until_async(lambda: bench.api.started)
        bench.server.cancel(b"one", call)
        await wait_until_async(lambda: bench.server.running == 0)
        assert bench.replies == []
        assert bench.server.counts["cancelled"] == 1
        assert await bench.value("echo", value=1) == 1

    serve(test, **small())


def test_cancelled_before_the_start() -> None:
    """A request and its CANCEL that arrive together take no place, and the handler does not run."""

    async def test(bench: Bench) -> None:
        for _ in range(3):
            bench.server.cancel(b"one", bench.request("wait"))
            await wait_until_async(lambda: bench.server.running == 0)
        assert bench.api.started == []
        assert await bench.value("echo", value=1) == 1
        assert len(bench.replies) == 1

    serve(test, **small(queue=0))


def test_cancelled_in_the_queue() -> None:
    """A call that is cancelled while it waits is not executed."""

    async def test(bench: Bench) -> None:
        running = bench.request("wait", number=1)
        bench.server.cancel(b"one", bench.request("wait", number=2))
        bench.api.gate.set()
        assert await bench.answer(running) == Result("done")
        assert await bench.value("echo", value=1) == 1
        assert bench.api.started == [1]

    serve(test, **small())


def test_a_thread_cannot_be_cancelled() -> None:
    """A `def` handler runs to its end, and its result is dropped."""

    async def test(bench: Bench) -> None:
        call = bench.request("wait_in_thread")
        await wait_until_async(lambda: bench.api.started)
        bench.server.cancel(b"one", call)
        bench.api.thread_gate.set()
        await wait_until_async(lambda: bench.server.running == 0)
        assert bench.replies == []

    serve(test, **small())


def test_only_the_caller_can_cancel() -> None:
    """A CANCEL from another peer, or for an unknown call, has no effect."""

    async def test(bench: Bench) -> None:
        call = bench.request("wait", by=b"one")
        bench.server.cancel(b"two", call)
        bench.server.cancel(b"one", 999)
        bench.api.gate.set()
        assert await bench.answer(call) == Result("done")
        assert bench.server.counts["cancelled"] == 0

    serve(test)


# What goes wrong


@pytest.mark.parametrize("where", ["fail", "fail_in_thread"])
@pytest.mark.parametrize(
    ("kind", "type_", "args", "text"),
    [
        ("plain", "builtins.ValueError", ["no", 7], "raised ValueError: ('no', 7)"),
        ("ours", "lightbus.exceptions.UnknownApi", ["nobody there"], "raised UnknownApi: nobody there"),
        ("arguments", "lightbus.exceptions.InvalidParameters", ["of a nested call"], "raised InvalidParameters"),
        ("exit", "builtins.SystemExit", [3], "raised SystemExit: 3"),
        ("interrupt", "builtins.KeyboardInterrupt", [], "raised KeyboardInterrupt"),
        ("cancelled", "asyncio.exceptions.CancelledError", ["my own"], "raised CancelledError: my own"),
        ("unserialisable", "builtins.ValueError", None, "raised ValueError: <object object"),
        ("surrogate", "builtins.ValueError", None, "raised ValueError: caf\\udce9"),
        ("unprintable", f"{__name__}.Unprintable", None, "raised Unprintable: <"),
        ("large", "builtins.ValueError", None, "raised ValueError: xxx"),
    ],
)
def test_every_exception_of_a_handler_is_answered(
    where: str, kind: str, type_: str, args: list[Any] | None, text: str
) -> None:
    """For any exception, the caller gets class, arguments (or their text) and traceback, and the worker continues."""

    async def test(bench: Bench) -> None:
        with quiet():
            error = await bench.error(where, kind=kind)
        assert (error.code, error.started) == ("worker_error", True)
        assert f"work.{where} {text}" in error.message
        assert error.details["type"] == type_
        assert error.details["args"] == args if args is not None else isinstance(error.details["args"][0], str)
        assert "Traceback" in error.details["trace"] or len(error.details["trace"]) == MAX_TRACE
        assert max(bench.sizes) <= 200_000
        assert bench.server.counts["failed"] == 1
        assert await bench.value("echo", value=1) == 1
        assert bench.server.running == 0

    serve(test, **small(), network={"max_message_size": 200_000})


@pytest.mark.parametrize("procedure", ["echo", "echo_in_thread"])
def test_a_result_that_cannot_be_sent(procedure: str) -> None:
    """The error names the procedure and the place in its result; the call was executed."""

    async def test(bench: Bench) -> None:
        bench.hooks.add("before_rpc_execution", lambda rpc_message: rpc_message.kwargs.update(value=[1, object()]))
        error = await bench.error(procedure)
        assert (error.code, error.started) == ("deform_error", True)
        assert f"The result of work.{procedure} cannot be sent" in error.message
        assert "[1] is an object" in error.message

    serve(test)


def test_a_result_over_the_limit() -> None:
    """A result that no caller could receive is an error that names the excess; the call was executed."""

    async def test(bench: Bench) -> None:
        error = await bench.error("echo", value="x" * 2000)
        assert (error.code, error.started) == ("payload_too_large", True)
        assert "takes 2014 bytes; a message may have 1500" in error.message
        assert await bench.value("echo", value="x" * 1400) == "x" * 1400

    serve(test, network={"max_message_size": 1500})


def test_a_reply_over_the_callers_limit() -> None:
    """A caller may have a lower limit than this process: then both limits are named, and errors are shortened."""

    async def test(bench: Bench) -> None:
        bench.server._runner._replies._max_message_size_of = {CALLER: 1100}.get  # type: ignore[assignment]
        error = await bench.error("echo", value="x" * 1200)
        assert (error.code, error.started) == ("payload_too_large", True)
        assert "takes 1214 bytes; the caller takes messages of 1100 (this process may send 67108864)" in error.message
        assert await bench.value("echo", value="x" * 1000) == "x" * 1000
        for kind in ("plain", "unserialisable", "large"):
            assert "work.fail raised ValueError" in (await bench.error("fail", kind=kind)).message
        assert max(bench.sizes) <= 1100

    serve(test)


def test_a_result_of_the_wrong_type() -> None:
    """A result that does not match the annotation is an error; the call was executed."""

    async def test(bench: Bench) -> None:
        error = await bench.error("promise")
        assert (error.code, error.started) == ("validation_error", True)
        assert "the result is 'no number'" in error.message

    serve(test)


def test_a_thread_that_ends_after_the_loop(caplog: pytest.LogCaptureFixture) -> None:
    """A `def` handler that outlives its worker does no harm; that its caller gets no reply is logged."""
    gates: list[threading.Event] = []

    async def main(executor: HandlerThreads) -> None:
        bench = Bench(executor)
        bench.request("wait_in_thread")
        await wait_until_async(lambda: bench.api.started)
        assert await bench.server.finish(1 * MS) == 1
        gates.append(bench.api.thread_gate)

    with threads(1) as executor:
        asyncio.run(main(executor))
        gates[0].set()
        wait_until(lambda: "work.wait_in_thread ended after the worker had stopped" in caplog.text)


# Hooks


@pytest.mark.parametrize("procedure", ["echo", "echo_in_thread"])
def test_hooks_get_the_call_and_its_result(procedure: str) -> None:
    """Hooks before and after a call get the call and its result, and may be `def` or `async def`."""
    told: list[tuple[str, Any, RpcMessage, Any]] = []

    def before(client: Any, rpc_message: RpcMessage) -> None:
        told.append(("before", client, rpc_message, None))

    async def after(client: Any, rpc_message: RpcMessage, result_message: ResultMessage) -> None:
        told.append(("after", client, rpc_message, result_message.result))

    async def test(bench: Bench) -> None:
        bench.hooks.add("before_rpc_execution", before)
        bench.hooks.add("after_rpc_execution", after)
        value = await bench.value(procedure, value=5)
        assert [(name, client, message.canonical_name, result) for name, client, message, result in told] == [
            ("before", "the client", f"work.{procedure}", None),
            ("after", "the client", f"work.{procedure}", value),
        ]

    serve(test)


@pytest.mark.parametrize("procedure", ["wait", "wait_in_thread"])
def test_a_hook_can_refuse(procedure: str) -> None:
    """The caller gets the exception of a hook before the execution, and the handler does not run."""

    def refuse() -> None:
        raise PermissionError("not you")

    async def test(bench: Bench) -> None:
        bench.hooks.add("before_rpc_execution", refuse)
        with quiet():
            error = await bench.error(procedure)
        assert error.details["type"] == "builtins.PermissionError"
        assert bench.api.started == []

    serve(test)


# The end


def test_finish_waits_for_running_and_queued_calls() -> None:
    """It returns when the last handler has ended, including those that were queued."""

    async def test(bench: Bench) -> None:
        calls = [bench.request("wait", number=number) for number in range(3)]
        finishing = asyncio.ensure_future(bench.server.finish(5.0))
        await wait_until_async(lambda: bench.api.started)
        assert not finishing.done()
        bench.api.gate.set()
        assert await finishing == 0
        assert [await bench.answer(call) for call in calls] == [Result("done")] * 3

    serve(test, **small(queue=5))


def test_a_place_is_free_when_a_thread_has_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """With room for a single call, a caller that makes one call after another is never refused."""

    async def main(bench: Bench) -> None:
        loop, again = asyncio.get_running_loop(), threading.Event()

        def ask_at_once() -> None:
            bench.request("echo_in_thread", 2, value="second")
            again.set()

        def reply(routing_id: bytes, frame: bytes) -> bool:
            bench.reply(routing_id, frame)
            if envelope.decode(frame)[0] == 1:
                loop.call_soon_threadsafe(ask_at_once)
                assert again.wait(60)  # the thread that has answered gets no further before the next call is there
            return True

        monkeypatch.setattr(bench.server, "_reply_from_thread", reply)
        bench.request("echo_in_thread", 1, value="first")
        answer = await bench.answer(2)
        assert isinstance(answer, Result), answer
        assert answer.value[1] == "second"

    serve(main, **small(1, 0))


def test_finish_waits_for_the_reply_of_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call whose place is already free only ends when its reply is sent."""

    async def main(bench: Bench) -> None:
        begun, proceed = threading.Event(), threading.Event()

        def reply(routing_id: bytes, frame: bytes) -> bool:
            begun.set()
            assert proceed.wait(60)
            return bench.reply(routing_id, frame)

        monkeypatch.setattr(bench.server, "_reply_from_thread", reply)
        call = bench.request("echo_in_thread")
        await asyncio.to_thread(begun.wait, 5.0)
        assert bench.server.running == 0
        assert not bench.replies
        finish = asyncio.create_task(bench.server.finish(5.0))
        await asyncio.sleep(0)
        assert not finish.done()
        proceed.set()
        assert await finish == 0
        assert isinstance(await bench.answer(call), Result)

    serve(main)


def test_finish_is_bounded() -> None:
    """A handler that does not end is interrupted, and the number of such handlers is returned."""

    async def test(bench: Bench) -> None:
        bench.request("wait")
        await wait_until_async(lambda: bench.api.started)
        assert await bench.server.finish(1 * MS) == 1
        await wait_until_async(lambda: bench.server.running == 0)

    with quiet():
        serve(test)


def test_finish_of_an_idle_server() -> None:
    """An idle server is finished at once."""

    async def test(bench: Bench) -> None:
        assert await bench.server.finish(0.0) == 0
        await bench.value("echo")
        assert await bench.server.finish(0.0) == 0

    serve(test)


# The context of an execution


TENANT: ContextVar[str] = ContextVar("tenant", default="nobody")


class Marked(Api):
    """Handlers that return the tenant that they were called for, and then set another one."""

    class Meta:
        name = "marked"

    async def of_async(self) -> str:
        seen = TENANT.get()
        TENANT.set("left by a handler")
        await asyncio.sleep(0)
        return seen

    def of_def(self) -> str:
        seen = TENANT.get()
        TENANT.set("left by a handler")
        return seen

    @undecorated
    async def of_hidden(self, value: Any = None) -> str:
        return await self.of_async()

    async def fail(self, kind: str) -> None:
        await asyncio.sleep(0)
        raise ODD[kind]()

    def fail_def(self, kind: str) -> None:
        raise ODD[kind]()

    @undecorated
    async def fail_hidden(self, value: Any) -> None:
        await self.fail(value)


HANDLERS = ["of_async", "of_def", "of_hidden"]


def serve_marked(test: Callable[[Bench], Coroutine[Any, Any, None]], **settings: Any) -> None:
    """Run a test with these handlers."""

    async def with_them(bench: Bench) -> None:
        bench.server._apis.add(Marked())
        await test(bench)

    serve(with_them, **settings)


@pytest.mark.parametrize("handler", HANDLERS)
def test_each_call_has_its_own_context(handler: str) -> None:
    """A context variable that a handler sets is visible to no other call, and to no other code."""

    async def test(bench: Bench) -> None:
        TENANT.set("whoever serves")
        for name in (handler, *HANDLERS, handler):
            assert await bench.value(name, _api="marked") == "nobody"
        assert TENANT.get() == "whoever serves"

    serve_marked(test)


@pytest.mark.parametrize("handler", HANDLERS)
@pytest.mark.parametrize("before_is_async", [False, True])
@pytest.mark.parametrize("after_is_async", [False, True])
def test_hooks_share_the_context_of_the_call(handler: str, before_is_async: bool, after_is_async: bool) -> None:
    """A hook's value is visible to the handler, and the handler's to the hook after it; for `def` and `async def`."""
    seen: list[str] = []

    def before(rpc_message: RpcMessage) -> None:
        seen.append(TENANT.get())
        TENANT.set(f"tenant of {rpc_message.id}")

    async def before_async(rpc_message: RpcMessage) -> None:
        await asyncio.sleep(0)
        before(rpc_message)

    def after() -> None:
        seen.append(TENANT.get())

    async def after_async() -> None:
        await asyncio.sleep(0)
        after()

    async def test(bench: Bench) -> None:
        bench.hooks.add("before_rpc_execution", before_async if before_is_async else before)
        bench.hooks.add("after_rpc_execution", after_async if after_is_async else after)
        assert [await bench.value(handler, call_id=number, _api="marked") for number in (1, 2)] == [
            "tenant of 1",
            "tenant of 2",
        ]

    serve_marked(test)
    assert seen == ["nobody", "left by a handler"] * 2


def test_a_def_handler_and_its_hooks_have_one_thread() -> None:
    """A resource that a `def` hook opens for its thread, such as a database connection, can be used by the handler."""
    threads: list[str] = []

    def note() -> None:
        threads.append(threading.current_thread().name)

    async def test(bench: Bench) -> None:
        bench.hooks.add("before_rpc_execution", note)
        bench.hooks.add("after_rpc_execution", note)
        name, _ = await bench.value("echo_in_thread")
        assert threads == [name, name]

    serve(test)


@pytest.mark.parametrize("handler", ["fail", "fail_def", "fail_hidden"])
def test_the_place_is_freed_after_any_exception(handler: str) -> None:
    """With a single place, the caller of each odd exception gets a reply, and the next call is served."""

    async def test(bench: Bench) -> None:
        for kind in ODD:
            with quiet():
                argument = {"value" if handler == "fail_hidden" else "kind": kind}
                error = await bench.error(handler, _api="marked", **argument)
            assert error.message.startswith(f"marked.{handler} raised "), kind
            assert bench.server.running == 0
            assert await bench.value("echo", value=kind) == kind

    serve_marked(test, **small())


@pytest.mark.parametrize("hook", ["before_rpc_execution", "after_rpc_execution"])
@pytest.mark.parametrize("handler", HANDLERS)
def test_every_exception_of_a_hook_is_answered(hook: str, handler: str) -> None:
    """An odd exception of a hook fails the call, and the worker continues."""

    async def test(bench: Bench) -> None:
        for kind in ("SystemExit", "CancelledError", "StopIteration", "no text", "a class that cannot be read"):

            def fail(kind: str = kind) -> None:
                raise ODD[kind]()

            bench.hooks.add(hook, fail)
            with quiet():
                assert (await bench.error(handler, _api="marked")).code == "worker_error"
            bench.hooks.remove(hook, fail)
            assert await bench.value(handler, _api="marked") == "nobody"

    serve_marked(test, **small())


def test_the_hook_after_is_called_for_every_error() -> None:
    """For SystemExit, too: a hook that closes the resource of another one is always called."""
    told: list[tuple[bool, str]] = []

    async def test(bench: Bench) -> None:
        bench.hooks.add("after_rpc_execution", lambda result_message: told.append(
            (result_message.error, type(result_message.result).__name__)))  # fmt: skip
        for kind in ("SystemExit", "plain"):
            for handler in ("fail", "fail_def"):
                with quiet():
                    await bench.error(handler, _api="marked", kind=kind)

    serve_marked(test)
    assert told == [(True, "SystemExit")] * 2 + [(True, "ValueError")] * 2


@pytest.mark.parametrize("handler", ["fail", "fail_def", "fail_hidden"])
def test_the_traceback_contains_only_the_handler(handler: str, caplog: pytest.LogCaptureFixture) -> None:
    """Neither the caller nor the log sees the frames of the worker."""

    async def test(bench: Bench) -> None:
        argument = {"value" if handler == "fail_hidden" else "kind": "plain"}
        error = await bench.error(handler, _api="marked", **argument)
        trace = error.details["trace"].splitlines()
        assert trace[0] == "Traceback (most recent call last):"
        assert f'File "{__file__}"' in trace[1]
        assert trace[-1] == "ValueError: oh"
        assert not any(str(PACKAGE) in line for line in trace)

    serve_marked(test)
    assert "/lightbus/rpc/" not in caplog.text


@pytest.mark.parametrize("handler", ["fail", "fail_in_thread"])
def test_a_full_disk_is_logged_once(handler: str, caplog: pytest.LogCaptureFixture) -> None:
    """It fails every call that fires an event; each caller gets an error."""

    async def test(bench: Bench) -> None:
        for _ in range(5):
            error = await bench.error(handler, kind="disk")
            assert "The disk is full: make room." in error.message
        await bench.error(handler, kind="plain")
        assert bench.server.counts["failed"] == 6

    serve(test)
    assert caplog.text.count("The disk is full: make room.") == 2  # the line, and its traceback
    assert caplog.text.count("Traceback") == 2


def test_a_handler_that_cancels_itself() -> None:
    """A handler that cancels the task that serves its call fails this call, and no other."""

    async def test(bench: Bench) -> None:
        class Cancels(Api):
            class Meta:
                name = "cancels"

            async def itself(self) -> None:
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
                await asyncio.sleep(1)

        bench.server._apis.add(Cancels())
        with quiet():
            assert "CancelledError" in (await bench.error("itself", _api="cancels")).message
        assert await bench.value("echo", value=1) == 1

    serve(test, **small())


def test_tasks_left_behind_are_not_part_of_the_call() -> None:
    """A task that outlives its call has neither its deadline nor its chain any more: it is a separate caller."""

    async def test(bench: Bench) -> None:
        answered, tasks = asyncio.Event(), list[asyncio.Task[Any]]()

        async def later() -> Any:
            before = current_chain()
            await answered.wait()
            served = current_call.get()
            assert served is not None
            return before, current_chain(), served.deadline

        class Leaves(Api):
            class Meta:
                name = "leaves"

            async def behind(self) -> None:
                tasks.append(asyncio.create_task(later()))
                await asyncio.sleep(0)

        bench.server._apis.add(Leaves())
        await bench.value("behind", _api="leaves", _chain=["b" * 16])
        answered.set()
        before, *after = await tasks[0]
        assert (before[0], before[1][:17], after) == ("b" * 16, f"{ME}:", [(), None])

    serve(test)


def test_a_hidden_coroutine_is_cancelled() -> None:
    """When a call is cancelled, a coroutine that is awaited for it is interrupted, even if a thread waits for it."""

    async def test(bench: Bench) -> None:
        started, cancelled = asyncio.Event(), asyncio.Event()

        class Waits(Api):
            class Meta:
                name = "waits"

            @undecorated
            async def long(self, value: Any = None) -> None:
                started.set()
                try:
                    await asyncio.sleep(10)
                except asyncio.CancelledError:
                    cancelled.set()
                    raise

        bench.server._apis.add(Waits())
        call = bench.request("long", _api="waits")
        await started.wait()
        bench.server.cancel(b"one", call)
        await asyncio.wait_for(cancelled.wait(), 60)

    serve(test)
