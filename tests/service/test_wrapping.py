from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import Context, ContextVar
from typing import Any

import pytest

from lightbus.exceptions import InvalidDeclaration
from lightbus.service.hooks import HookRegistry
from lightbus.service.wrapping import Wrapping

told: ContextVar[str] = ContextVar("told", default="")


def noting(order: list[str], name: str) -> Any:
    """Return a hook that notes when it is entered and left, and with what."""

    @contextmanager
    def hook() -> Iterator[None]:
        order.append(f"enter {name}")
        try:
            yield
        except BaseException as error:
            order.append(f"leave {name}: {error!r}")
            raise
        order.append(f"leave {name}")

    return hook


def test_the_first_one_is_outermost() -> None:
    """They are entered in order, and left in reverse order."""
    order: list[str] = []
    with Wrapping([(noting(order, "a"), {}), (noting(order, "b"), {})]):
        order.append("it")
    assert order == ["enter a", "enter b", "it", "leave b", "leave a"]


def test_each_wrapper_sees_a_failure_and_none_suppresses_it() -> None:
    """The exception is raised in any case, also if a hook tries to suppress it."""
    order: list[str] = []

    @contextmanager
    def swallow() -> Iterator[None]:
        try:
            yield
        except ValueError:
            order.append("swallowed")

    with pytest.raises(ValueError, match="it"), Wrapping([(swallow, {}), (noting(order, "b"), {})]):
        raise ValueError("it")
    assert order == ["enter b", "leave b: ValueError('it')", "swallowed"]


def test_failing_enter_leaves_the_others() -> None:
    """Those entered before are left with the failure."""
    order: list[str] = []

    def failing() -> AbstractContextManager[None]:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"), Wrapping([(noting(order, "a"), {}), (failing, {})]):
        order.append("never")
    assert order == ["enter a", "leave a: RuntimeError('no')"]


def test_wrapper_may_return_none() -> None:
    """A hook may decide that there is nothing to wrap."""
    order: list[str] = []
    with Wrapping([(lambda: None, {}), (noting(order, "b"), {})]):
        pass
    assert order == ["enter b", "leave b"]


def test_result_that_is_no_context_manager_is_named() -> None:
    """The error says what to return, and what was returned."""
    with (
        pytest.raises(InvalidDeclaration, match="has to return a context manager, and returned 5"),
        Wrapping([(lambda: 5, {})]),
    ):
        pass


def test_wrappers_run_in_the_given_context() -> None:
    """Values set on entering are visible on leaving, and nowhere else."""
    seen: list[str] = []

    @contextmanager
    def hook() -> Iterator[None]:
        told.set("inside")
        yield
        seen.append(told.get())

    with Wrapping([(hook, {})], Context().run):
        seen.append(told.get())
    assert seen == ["", "inside"]


def test_wrappers_are_left_while_a_thread_uses_the_context() -> None:
    """An abandoned thread keeps the context: they are left even so."""
    order: list[str] = []
    context, is_in, may_go = Context(), threading.Event(), threading.Event()

    def stay() -> None:
        is_in.set()
        may_go.wait(60)

    thread = threading.Thread(target=context.run, args=[stay])
    with Wrapping([(noting(order, "a"), {})], context.run):
        thread.start()
        is_in.wait(60)
    assert order == ["enter a", "leave a"]
    may_go.set()
    thread.join()


def test_a_function_that_cannot_wrap_is_refused() -> None:
    """A bare generator or an `async def` is refused at registration, with the line to add."""

    def generator() -> Iterator[None]:
        yield

    async def coroutine() -> None: ...

    for function in (generator, coroutine):
        with pytest.raises(InvalidDeclaration, match=r"@contextlib\.contextmanager right above"):
            HookRegistry().add("around_rpc_call", function)


def test_without_wrappers_nothing_is_created() -> None:
    """The same object is returned each time."""
    registry = HookRegistry()
    assert registry.around("around_rpc_call") is registry.around("around_event_sent")
    assert not registry.is_about("rpc_call")
    registry.add("around_rpc_call", noting([], "a"))
    assert registry.is_about("rpc_call")
    assert not registry.is_about("event_sent")
