"""The way of a request through a worker: whatever it is, it is answered, and nothing stops the worker."""

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
    """A list that may be asked whether it is still there."""


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
    """Handlers of every kind; `gate` holds those that wait."""

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
    """A server whose replies are kept."""

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
        """Have a request arrive, and return its call id. Fields of the envelope are given as `_name`."""
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
        """Return the answer to a call, once it is there."""
        found = await wait_until_async(
            lambda: [message for _, replied, message in self.replies if replied == call_id], what=f"answer to {call_id}"
        )
        assert len(found) == 1
        return found[0]

    async def error(self, procedure: str, **kwargs: Any) -> Error:
        """Return the error that a request is answered with."""
        message = await self.answer(self.request(procedure, **kwargs))
        assert isinstance(message, Error)
        return message

    async def value(self, procedure: str, **kwargs: Any) -> Any:
        """Return the value that a request is answered with."""
        message = await self.answer(self.request(procedure, **kwargs))
        assert isinstance(message, Result), message
        return message.value


@contextmanager
def threads(count: int) -> Iterator[HandlerThreads]:
    """Give threads for `def` handlers."""
    executor = HandlerThreads(count)
    yield executor
    executor.shutdown()


def serve(test: Callable[[Bench], Coroutine[Any, Any, None]], **settings: Any) -> None:
    """Run a test with a server; afterwards nothing may be left running or queued."""

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
    """Keep what the server logs of failing handlers out of the output."""
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
    """The answer goes to whoever asked, under the call id of the request."""

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


def test_an_async_function_that_does_not_look_like_one() -> None:
    """What a decorator hides is awaited on the loop all the same."""

    async def test(bench: Bench) -> None:
        assert await bench.value("hidden", value=4) == [threading.current_thread().name, 4]

    serve(test)


def test_arguments_become_what_the_handler_is_annotated_with() -> None:
    """A map becomes the dataclass; with `cast_values: false` it stays what it is."""

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
    """What the handler calls has the deadline of its own caller, and says who waits for whom; nothing stays behind."""

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


def test_unknown_names_are_answered() -> None:
    """An API or a procedure that is not there is said so, with near names, and is not for another peer."""

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
    """Attributes, private names and what every Api has are out of reach."""

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
def test_wrong_arguments_are_answered(kwargs: dict[str, Any], code: str, text: str) -> None:
    """The caller reads what is wrong and how the procedure is declared; nothing was executed."""

    async def test(bench: Bench) -> None:
        error = await bench.error("add", **kwargs)
        assert (error.code, error.started, error.details) == (code, False, {})
        assert text in error.message
        assert "add(one: int, other: int) -> int" in error.message
        assert bench.server.counts["failed"] == 0

    serve(test)


def test_validation_can_be_switched_off() -> None:
    """With `validate: false` the handler gets what was sent, and its result is not looked at."""

    async def test(bench: Bench) -> None:
        assert await bench.value("add", one="a", other="b") == "ab"
        assert await bench.value("promise") == "no number"

    serve(test, apis={"default": {"validate": False, "cast_values": False}})


def test_a_worker_without_rpcs() -> None:
    """A worker that is told to serve no calls leaves them to other peers; what the bus itself asks is answered."""

    async def test(bench: Bench) -> None:
        error = await bench.error("echo")
        assert (error.code, error.started, error.details) == ("peer_unreachable", False, {"elsewhere": True})
        assert "runs without the feature 'rpcs'" in error.message
        assert await bench.value("ping", _api="internal.inner") == "pong"

    serve(test, serves_calls=False)


def test_a_busy_worker_answers_questions_about_itself() -> None:
    """Internal calls neither wait for a place nor take one: it is the busy worker that is asked."""

    async def test(bench: Bench) -> None:
        running, queued = bench.request("wait"), bench.request("wait")
        assert await bench.value("ping", _api="internal.inner") == "pong"
        assert (bench.server.running, bench.server.queued) == (1, 1)
        bench.api.gate.set()
        for call_id in (running, queued):
            await bench.answer(call_id)

    serve(test, **small())


def test_refusals_are_shown_to_who_watches() -> None:
    """Calls that were refused, and that their callers gave up, are among those that are told; earlier ones are not."""

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
    """Calls that go in a circle through several processes end, and no other peer is asked."""

    async def test(bench: Bench) -> None:
        error = await bench.error("echo", _chain=["b" * 16] * MAX_CHAIN)
        assert (error.code, error.started, error.details) == ("peer_refused", False, {})
        assert "32 calls deep" in error.message
        assert await bench.value("echo", value=1, _chain=["b" * 16] * (MAX_CHAIN - 1)) == 1

    serve(test)


def test_a_request_without_time_left_is_dropped() -> None:
    """Whoever waits has given up already, so it is neither executed nor answered."""

    async def test(bench: Bench) -> None:
        bench.request("wait", _left=0.0)
        bench.request("wait", _left=-1.0)
        await bench.value("echo")
        assert bench.api.started == []
        assert len(bench.replies) == 1
        assert bench.server.counts["expired"] == 2

    serve(test)


def test_time_left_may_be_any_number() -> None:
    """A stranger's absurd number harms nobody."""

    async def test(bench: Bench) -> None:
        assert await bench.value("echo", value=1, _left=10**400) == 1
        assert await bench.value("echo", value=2, _left=float("nan")) == 2

    serve(test)


# Admission


@pytest.mark.parametrize("procedure", ["wait", "wait_in_thread"])
def test_only_so_many_run_at_once(procedure: str) -> None:
    """Beyond `rpc_concurrency` requests wait, beyond `rpc_queue` they are refused for another peer to take."""

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
    """Who came first goes first."""

    async def test(bench: Bench) -> None:
        calls = [bench.request("wait", number=number) for number in range(6)]
        bench.api.gate.set()
        for call in calls:
            await bench.answer(call)
        assert bench.api.started == [0, 1, 2, 3, 4, 5]

    serve(test, **small(concurrency=1, queue=9))


@pytest.mark.parametrize("procedure", ["echo", "echo_in_thread"])
def test_a_call_back_into_the_same_process_has_a_place(procedure: str) -> None:
    """For a nested call that waits behind the call that waits for it nobody could ever help; so it does not wait."""

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
def test_a_chain_that_only_claims_to_wait_is_none(chain: list[str]) -> None:
    """Who names this process without having been called by it waits as everybody does."""

    async def test(bench: Bench) -> None:
        outer = bench.request("wait")
        await wait_until_async(lambda: bench.api.started == [0])
        claims = bench.request("echo", value="claims", _chain=chain)
        assert bench.server.queued == 1
        bench.api.gate.set()
        assert await bench.answer(outer) == Result("done")
        assert await bench.answer(claims) == Result("claims")

    serve(test, **small())


def test_a_mark_is_worth_nothing_once_its_call_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that was called by this process may call back as long as that call lasts, and so often."""
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


def test_a_call_with_the_id_of_one_that_is_not_answered() -> None:
    """It is refused, and the earlier one is counted, waited for and cancelled as ever."""

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


def test_questions_about_the_worker_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """They need no place, and are refused where there are too many."""
    monkeypatch.setattr(places, "MAX_INTERNAL", 2)

    async def test(bench: Bench) -> None:
        asked = [bench.request("ping", _api="internal.inner") for _ in range(3)]
        refusal = await bench.answer(asked[2])
        assert isinstance(refusal, Error)
        assert (refusal.code, refusal.details) == ("peer_busy", {"elsewhere": True})
        assert [isinstance(await bench.answer(each), Result) for each in asked[:2]] == [True, True]
        assert isinstance(await bench.answer(bench.request("ping", _api="internal.inner")), Result)

    serve(test)


def test_what_waits_is_bounded_in_bytes() -> None:
    """Few large requests fill the queue as many small ones do; one may wait in any case."""

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
    """What asks for more than there is waits though there is a place; one that is alone is executed in any case."""

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


def test_a_call_that_waits_keeps_no_arguments() -> None:
    """Nothing holds what was decoded, or it would be counted by its bytes and take sixty times as much."""

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


def test_a_large_call_waits_as_bytes_and_has_its_arguments_when_it_is_begun() -> None:
    """A list of lists takes sixty times the memory that its bytes take, and only those are counted."""

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
    """A request nobody waits for any more is not executed when its turn comes, and those behind it are."""

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


def test_a_draining_worker_takes_nothing_new() -> None:
    """What runs is finished; what comes is for another peer."""

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


def test_what_waited_through_a_standstill_is_refused() -> None:
    """How old it is nobody knows, so it is to be sent again, with a number by which it is known to be fresh."""

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
    """Some time after a standstill nothing old can be on its way any more."""

    async def test(bench: Bench) -> None:
        bench.server.loop_stalled(time.monotonic() - STALL_GRACE)
        assert await bench.value("echo", value=1) == 1

    serve(test)


# Cancelling


def test_a_running_handler_is_cancelled() -> None:
    """An `async def` handler that waits is interrupted, and nobody is answered."""

    async def test(bench: Bench) -> None:
        call = bench.request("wait")
        await wait_until_async(lambda: bench.api.started)
        bench.server.cancel(b"one", call)
        await wait_until_async(lambda: bench.server.running == 0)
        assert bench.replies == []
        assert bench.server.counts["cancelled"] == 1
        assert await bench.value("echo", value=1) == 1

    serve(test, **small())


def test_cancelled_before_it_began() -> None:
    """A request and its CANCEL that arrive together cost no place, and the handler does not run."""

    async def test(bench: Bench) -> None:
        for _ in range(3):
            bench.server.cancel(b"one", bench.request("wait"))
            await wait_until_async(lambda: bench.server.running == 0)
        assert bench.api.started == []
        assert await bench.value("echo", value=1) == 1
        assert len(bench.replies) == 1

    serve(test, **small(queue=0))


def test_cancelled_in_the_queue() -> None:
    """What is given up while it waits is not executed."""

    async def test(bench: Bench) -> None:
        running = bench.request("wait", number=1)
        bench.server.cancel(b"one", bench.request("wait", number=2))
        bench.api.gate.set()
        assert await bench.answer(running) == Result("done")
        assert await bench.value("echo", value=1) == 1
        assert bench.api.started == [1]

    serve(test, **small())


def test_a_thread_cannot_be_cancelled() -> None:
    """A `def` handler runs to its end, and its result goes nowhere."""

    async def test(bench: Bench) -> None:
        call = bench.request("wait_in_thread")
        await wait_until_async(lambda: bench.api.started)
        bench.server.cancel(b"one", call)
        bench.api.thread_gate.set()
        await wait_until_async(lambda: bench.server.running == 0)
        assert bench.replies == []

    serve(test, **small())


def test_only_the_caller_can_cancel() -> None:
    """A CANCEL of somebody else, or for a call that is not there, does nothing."""

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
def test_what_a_handler_raises_is_answered(
    where: str, kind: str, type_: str, args: list[Any] | None, text: str
) -> None:
    """Whatever it is, the caller gets class, arguments (or their text) and traceback, and the worker continues."""

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
    """The caller reads which procedure it is and what in its result; it was executed."""

    async def test(bench: Bench) -> None:
        bench.hooks.add("before_rpc_execution", lambda rpc_message: rpc_message.kwargs.update(value=[1, object()]))
        error = await bench.error(procedure)
        assert (error.code, error.started) == ("deform_error", True)
        assert f"The result of work.{procedure} cannot be sent" in error.message
        assert "[1] is an object" in error.message

    serve(test)


def test_a_result_over_the_limit() -> None:
    """A result that no caller could receive is an error that says by how much; it was executed."""

    async def test(bench: Bench) -> None:
        error = await bench.error("echo", value="x" * 2000)
        assert (error.code, error.started) == ("payload_too_large", True)
        assert "takes 2014 bytes; a message may have 1500" in error.message
        assert await bench.value("echo", value="x" * 1400) == "x" * 1400

    serve(test, network={"max_message_size": 1500})


def test_an_answer_over_the_callers_limit() -> None:
    """A caller may take less than this process sends: then both limits are said, and errors are shortened to fit."""

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
    """A result that is not what the procedure promises is an error; it was executed."""

    async def test(bench: Bench) -> None:
        error = await bench.error("promise")
        assert (error.code, error.started) == ("validation_error", True)
        assert "the result is 'no number'" in error.message

    serve(test)


def test_a_thread_that_ends_after_the_loop(caplog: pytest.LogCaptureFixture) -> None:
    """A `def` handler that outlives its worker harms nothing; that its caller gets no answer is logged."""
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
def test_hooks_are_told(procedure: str) -> None:
    """Hooks before and after get the call and its result, and may be of either kind."""
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
    """What a hook raises before the execution is what the caller gets, and the handler does not run."""

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


def test_finish_waits_for_what_runs_and_waits() -> None:
    """It returns when the last handler has ended, those that were queued included."""

    async def test(bench: Bench) -> None:
        calls = [bench.request("wait", number=number) for number in range(3)]
        finishing = asyncio.ensure_future(bench.server.finish(5.0))
        await wait_until_async(lambda: bench.api.started)
        assert not finishing.done()
        bench.api.gate.set()
        assert await finishing == 0
        assert [await bench.answer(call) for call in calls] == [Result("done")] * 3

    serve(test, **small(queue=5))


def test_who_has_the_answer_of_a_thread_finds_its_place_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a single call may run, a caller that asks one after another is never refused."""

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


def test_finish_waits_for_the_answer_that_a_thread_sends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call whose place is free already is not over before its answer is on its way."""

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
    """A handler that does not end is interrupted, and its number is returned."""

    async def test(bench: Bench) -> None:
        bench.request("wait")
        await wait_until_async(lambda: bench.api.started)
        assert await bench.server.finish(1 * MS) == 1
        await wait_until_async(lambda: bench.server.running == 0)

    with quiet():
        serve(test)


def test_finish_with_nothing_to_do() -> None:
    """An idle server is finished at once."""

    async def test(bench: Bench) -> None:
        assert await bench.server.finish(0.0) == 0
        await bench.value("echo")
        assert await bench.server.finish(0.0) == 0

    serve(test)


# The context of an execution


TENANT: ContextVar[str] = ContextVar("tenant", default="nobody")


class Marked(Api):
    """Handlers that say which tenant they were called for, and then set another one."""

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
    """Run a test with those handlers."""

    async def with_them(bench: Bench) -> None:
        bench.server._apis.add(Marked())
        await test(bench)

    serve(with_them, **settings)


@pytest.mark.parametrize("handler", HANDLERS)
def test_each_call_has_a_context_of_its_own(handler: str) -> None:
    """What a handler sets is seen by no other call, and by nobody around."""

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
    """What a hook sets, the handler sees, and the hook after it sees what that has set; `def` and `async def`."""
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
    """What a `def` hook opens for its thread, as a connection of a database, is there for the handler."""
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
def test_whatever_is_raised_the_place_is_given_back(handler: str) -> None:
    """With one place only, the caller of each odd exception gets an answer, and the next call is served."""

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
def test_whatever_a_hook_raises_is_answered(hook: str, handler: str) -> None:
    """A hook's exception of an odd kind is the call's, and the worker continues."""

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


def test_the_hook_after_is_told_of_every_error() -> None:
    """Also of SystemExit: a hook that closes what another one has opened is not left out."""
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
def test_the_traceback_is_that_of_the_handler(handler: str, caplog: pytest.LogCaptureFixture) -> None:
    """Neither the caller nor the log is shown how the worker got there."""

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
    """It fails every call that fires something; their callers are all told."""

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
    """Cancelling the task that serves the call is an error of the call, and of no other one."""

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


def test_what_is_left_behind_is_no_part_of_the_call() -> None:
    """A task that outlives its call has neither its deadline nor its chain any more: it is a caller of its own."""

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
    """Whoever gives up a call interrupts what is awaited for it, also where a thread waits for that."""

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
