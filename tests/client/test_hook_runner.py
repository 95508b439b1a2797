"""Hooks of a client: in each form, around calls, events and a worker's life."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import lightbus
from helpers import Door, wait_until
from lightbus import (
    Api,
    BusPath,
    Event,
    EventMessage,
    InvalidParameters,
    LightbusWorkerError,
    Parameter,
    ResultMessage,
    RpcMessage,
    ValidationError,
)
from lightbus.testing import MemoryBus


def test_hooks_of_a_worker(bus: BusPath) -> None:
    """The hooks of a worker's lifecycle run in order, whatever form they were declared in."""
    ran: list[str] = []

    @bus.client.on_start
    def bare() -> None:
        ran.append("on_start")

    @bus.client.on_stop()
    async def called(client: lightbus.BusClient) -> None:
        assert client is bus.client
        ran.append("on_stop")

    @bus.client.before_worker_start(before_plugins=True)
    def with_option(**kwargs: Any) -> None:
        assert kwargs == {"client": bus.client}
        ran.append("before_worker_start")

    def plain() -> None:
        ran.append("after_worker_stopped")

    @bus.client.after_worker_started
    async def serves(client: lightbus.BusClient) -> None:
        assert await client.call_rpc_remote("auth", "check_password", {"username": "sally", "password": "secret"})
        ran.append("after_worker_started")

    assert bus.client.after_worker_stopped(plain) is plain
    assert callable(bare)
    bus.client.start_in_background()
    assert ran == ["before_worker_start", "on_start", "after_worker_started"]
    bus.client.close()
    assert ran == ["before_worker_start", "on_start", "after_worker_started", "on_stop", "after_worker_stopped"]


def test_sync_hook_may_block_and_call(bus: BusPath) -> None:
    """A `def` hook runs in a thread: it may listen, as in the project's own document, and make calls."""
    heard: list[str] = []
    answers: list[bool] = []

    @bus.client.on_start()
    def on_start() -> None:
        bus.auth.user_registered.listen(lambda message, username: heard.append(username), listener_name="hear")

    @bus.client.after_rpc_execution()
    def after() -> None:
        if not answers:
            answers.append(False)
            answers[0] = bus.auth.check_password(username="sally", password="secret")

    bus.client.start_in_background()
    assert bus.auth.check_password(username="sally", password="wrong") is False
    assert answers == [True]
    bus.auth.user_registered(username="sally")
    wait_until(lambda: heard == ["sally"])


def test_hooks_of_calls(served: BusPath, door: Door) -> None:
    """The hooks around a call and its execution get the call and its result."""
    told: list[tuple[str, str, dict[str, Any], Any]] = []

    def note(hook: str) -> Callable[..., None]:
        def noted(rpc_message: RpcMessage, result_message: ResultMessage | None = None) -> None:
            result = None if result_message is None else result_message.result
            told.append((hook, rpc_message.canonical_name, rpc_message.kwargs, result))

        return noted

    for hook in ("before_rpc_call", "after_rpc_call", "before_rpc_execution", "after_rpc_execution"):
        getattr(served.client, hook)(note(hook))
    arguments = {"username": "sally", "password": "secret"}
    assert door.call(served.auth.check_password, **arguments) is True
    assert told == [
        ("before_rpc_call", "auth.check_password", arguments, None),
        ("before_rpc_execution", "auth.check_password", arguments, None),
        ("after_rpc_execution", "auth.check_password", arguments, True),
        ("after_rpc_call", "auth.check_password", arguments, True),
    ]


def test_hooks_of_calls_that_fail(served: BusPath, door: Door) -> None:
    """The hooks after a call get its failure, too, on both sides."""
    told: list[ResultMessage] = []
    served.client.after_rpc_execution(lambda result_message: told.append(result_message))
    served.client.after_rpc_call(lambda result_message: told.append(result_message))
    with pytest.raises(LightbusWorkerError, match="raised ValueError: no luck"):
        door.call(served.auth.fail, why="no luck")
    executed, called = told
    assert executed.error
    assert isinstance(executed.result, ValueError)
    assert executed.trace.endswith("ValueError: no luck\n")
    assert called.error
    assert isinstance(called.result, LightbusWorkerError)
    assert called.trace == called.result.trace
    assert (called.api_name, called.procedure_name) == ("auth", "fail")


def test_hook_refuses_a_call(served: BusPath, door: Door) -> None:
    """An exception in a hook before a call, or before its execution, reaches the caller instead of a result."""

    @served.client.before_rpc_call
    def refuse(rpc_message: RpcMessage) -> None:
        if rpc_message.kwargs["username"] == "mallory":
            raise PermissionError("not you")

    @served.client.before_rpc_execution
    async def refuse_there(rpc_message: RpcMessage) -> None:
        if rpc_message.kwargs["username"] == "eve":
            raise PermissionError("nor you")

    with pytest.raises(PermissionError, match="not you"):
        door.call(served.auth.check_password, username="mallory", password="")
    with pytest.raises(LightbusWorkerError, match="raised PermissionError: nor you"):
        door.call(served.auth.check_password, username="eve", password="")
    assert door.call(served.auth.check_password, username="sally", password="secret") is True


def test_hooks_of_events(bus: BusPath, door: Door) -> None:
    """The hooks around firing and handling get the event, and the name of the listener that handles it."""
    told: list[tuple[str, ...]] = []
    bus.auth.user_registered.listen(lambda message: told.append(("handled",)), listener_name="hear")
    bus.client.before_event_sent(lambda event_message: told.append(("before_sent", event_message.canonical_name)))
    bus.client.after_event_sent(lambda event_message: told.append(("after_sent", event_message.native_id)))
    bus.client.before_event_execution(
        lambda event_message, listener_name: told.append(("before", listener_name, event_message.id))
    )
    bus.client.after_event_execution(lambda listener_name: told.append(("after", listener_name)))
    bus.client.start_in_background()
    message = door.fire(bus.auth.user_registered, username="sally")
    wait_until(lambda: len(told) == 5)
    assert told[0] == ("before_sent", "auth.user_registered")
    assert ("after_sent", message.native_id) in told
    assert [each for each in told if "sent" not in each[0]] == [
        ("before", "hear", message.id),
        ("handled",),
        ("after", "hear"),
    ]


class Wraps:
    """Records the wrapped step: "event_sent", and "event_sent: ValueError" if it failed; and how it was left."""

    def __init__(self, bus: BusPath) -> None:
        self.noted: list[str] = []
        for what in ("rpc_call", "rpc_execution", "event_sent", "event_execution"):
            getattr(bus.client, f"around_{what}")(self._hook(what))

    def _hook(self, what: str) -> Callable[..., Any]:
        @contextlib.contextmanager
        def wrap(client: lightbus.BusClient) -> Iterator[None]:
            seen.set(what)
            try:
                yield
            except BaseException as error:
                self.noted.append(f"{what}: {type(error).__name__}")
                raise
            assert seen.get() == what
            self.noted.append(what)

        return wrap


seen: contextvars.ContextVar[str] = contextvars.ContextVar("seen", default="")


@pytest.mark.parametrize("is_async", [False, True], ids=["def", "async def"])
def test_hooks_wrap_an_event(bus: BusPath, door: Door, is_async: bool) -> None:
    """They are entered in the caller's and in the listener's context, and left however it ends: also by a failure."""
    wraps = Wraps(bus)

    def hear(message: lightbus.EventMessage, username: str) -> None:
        assert seen.get() == "event_execution"
        if username == "nobody":
            raise ValueError(username)

    async def hear_async(message: lightbus.EventMessage, username: str) -> None:
        hear(message, username)

    listener = hear_async if is_async else hear
    on_error = lightbus.OnError.ACKNOWLEDGE_AND_LOG
    bus.auth.user_registered.listen(listener, listener_name="hear", on_error=on_error)
    bus.client.start_in_background()
    door.fire(bus.auth.user_registered, username="sally")
    wait_until(lambda: sorted(wraps.noted) == ["event_execution", "event_sent"])
    wraps.noted.clear()
    door.fire_many(bus.auth.user_registered, [{"username": "nobody"}, {"username": "sally"}])
    expected = ["event_execution", "event_execution: ValueError", "event_sent", "event_sent"]
    wait_until(lambda: sorted(wraps.noted) == expected)


def test_hooks_wrap_a_call(bus: BusPath, door: Door) -> None:
    """The hooks of the caller and of the executing side; a failure is passed to both with its exception."""
    wraps = Wraps(bus)
    bus.client.start_in_background()
    assert door.call(bus.auth.check_password, username="sally", password="secret") is True
    assert wraps.noted == ["rpc_execution", "rpc_call"]
    wraps.noted.clear()
    with pytest.raises(LightbusWorkerError):
        door.call(bus.auth.fail, why="so")
    assert wraps.noted == ["rpc_execution: ValueError", "rpc_call: LightbusWorkerError"]


def test_wrapping_hooks_are_exited_on_cancellation(bus: BusPath) -> None:
    """A caller that gives up exits them, as does the handler that is cancelled for it."""
    began = asyncio.Event()

    class SlowApi(lightbus.Api):
        class Meta:
            name = "slow"

        async def wait(self) -> None:
            began.set()
            await asyncio.sleep(3600)

    bus.client.register_api(SlowApi())
    wraps = Wraps(bus)

    async def main() -> None:
        await bus.client.start_worker()
        call = asyncio.create_task(bus.slow.wait.call_async())
        await began.wait()
        call.cancel()
        await asyncio.wait([call])
        await bus.client.stop_worker()

    asyncio.run(main())
    wait_until(lambda: sorted(wraps.noted) == ["rpc_call: CancelledError", "rpc_execution: CancelledError"])


def _replacing(bus: BusPath, caller: BusPath) -> None:
    """Make each hook replace what its message carries, adding the hook's name."""

    def before_call(rpc_message: RpcMessage) -> None:
        rpc_message.kwargs = {"words": [*rpc_message.kwargs["words"], "before_rpc_call"]}

    async def before_execution(rpc_message: RpcMessage) -> None:
        rpc_message.kwargs = {"words": (*rpc_message.kwargs["words"], "before_rpc_execution")}

    def after_execution(result_message: ResultMessage) -> None:
        result_message.result = [*result_message.result, "after_rpc_execution"]

    async def after_call(result_message: ResultMessage) -> None:
        result_message.result = [*result_message.result, "after_rpc_call"]

    def before_sent(event_message: EventMessage) -> None:
        event_message.kwargs = {"words": [*event_message.kwargs["words"], "before_event_sent"]}

    async def before_handling(event_message: EventMessage) -> None:
        words = [*event_message.kwargs["words"], "before_event_execution"]
        event_message.kwargs = {**event_message.kwargs, "words": words}

    caller.client.before_rpc_call(before_call)
    bus.client.before_rpc_execution(before_execution)
    bus.client.after_rpc_execution(after_execution)
    caller.client.after_rpc_call(after_call)
    caller.client.before_event_sent(before_sent)
    bus.client.before_event_execution(before_handling)


class Words(Api):
    said = Event([Parameter("words", list[str]), Parameter("loud", bool, default=False)])

    class Meta:
        name = "words"

    def plain(self, words: tuple[str, ...]) -> list[str]:
        assert type(words) is tuple
        return [*words, "plain"]

    async def waiting(self, words: tuple[str, ...]) -> list[str]:
        assert type(words) is tuple
        return [*words, "waiting"]

    def fails(self, words: tuple[str, ...]) -> None:
        raise ValueError(words)


def test_hooks_can_replace_arguments_and_results(hub: MemoryBus, caller: BusPath, door: Door) -> None:
    """Arguments or a result that a hook assigns to a message are used instead, cast like the original."""
    bus = hub.create(service_name="words")
    bus.client.register_api(Words())
    heard: list[tuple[str, set[str], bool]] = []

    def plain(message: EventMessage, words: set[str], loud: bool) -> None:
        heard.append(("plain", words, loud))

    async def waiting(message: EventMessage, words: set[str], loud: bool) -> None:
        heard.append(("waiting", words, loud))

    bus.words.said.listen(plain)
    bus.words.said.listen(waiting)
    _replacing(bus, caller)
    hub.start(bus)
    for name in ("plain", "waiting"):
        found = door.call(getattr(caller.words, name), words=["given"])
        before, after = ["before_rpc_call", "before_rpc_execution"], ["after_rpc_execution", "after_rpc_call"]
        assert found == ["given", *before, name, *after]
    door.fire(caller.words.said, words=["one"])
    door.fire_many(caller.words.said, [{"words": ["many"]}])
    wait_until(lambda: len(heard) == 4)
    for name in ("plain", "waiting"):
        for first in ("one", "many"):
            assert (name, {first, "before_event_sent", "before_event_execution"}, False) in heard


def test_arguments_replaced_by_hooks_are_checked(bus: BusPath, door: Door) -> None:
    """Arguments that a hook assigns are validated like those that were given."""
    bus.client.register_api(Words())

    @bus.client.before_rpc_call
    def call(rpc_message: RpcMessage) -> None:
        rpc_message.kwargs = {"word": 1}

    @bus.client.before_event_sent
    def event(event_message: EventMessage) -> None:
        event_message.kwargs = {"words": [5]}

    with pytest.raises(InvalidParameters, match="no parameter 'word'"):
        door.call(bus.words.plain, words=["given"])
    for fire in (
        lambda: door.fire(bus.words.said, words=["given"]),
        lambda: door.fire_many(bus.words.said, [{"words": []}]),
    ):
        with pytest.raises(ValidationError, match="not of type"):
            fire()


def test_hooks_can_turn_an_error_into_a_result(hub: MemoryBus, caller: BusPath, door: Door) -> None:
    """A hook can turn an error into a result, at the worker or at the caller."""
    bus = hub.create(service_name="words")
    bus.client.register_api(Words())

    def mend(result_message: ResultMessage) -> None:
        if result_message.error:
            result_message.result, result_message.error = None, False

    caller.client.after_rpc_call(mend)
    hub.start(bus)
    assert door.call(caller.words.fails, words=["given"]) is None
    with pytest.raises(LightbusWorkerError, match="ValueError"):
        door.call(hub.create().words.fails, words=["given"])
    bus.client.after_rpc_execution(mend)
    assert door.call(hub.create().words.fails, words=["given"]) is None
