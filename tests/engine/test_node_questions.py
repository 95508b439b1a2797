"""Lookups of channels at the node: wherever it runs, however often it moves, and with a time limit."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future
from typing import Any

import pytest

from lightbus.deadline import Deadline
from lightbus.engine.node_questions import NodeQuestions
from lightbus.exceptions import LightbusShutdownInProgress, LightbusTimeout, UnknownApi
from lightbus.membership.lookup import NodeStopped


class Lookup:
    """The lookup of a node, with prepared answers."""

    def __init__(self, host: FakeHost) -> None:
        self._host = host

    async def _answer(self, question: str) -> None:
        self._host.asked.append(question)
        for error in self._host.errors[:1]:
            del self._host.errors[0]
            raise error
        await asyncio.sleep(self._host.takes)

    async def resolve(
        self, api: str, deadline: Deadline, *, to_call: bool = False, leaving: Collection[str] = ()
    ) -> None:
        await self._answer(f"resolve {api} {to_call} {' '.join(leaving)}".rstrip())

    async def resolve_all(self, api: str, deadline: Deadline) -> None:
        await self._answer(f"resolve_all {api}")

    async def wait_for(self, apis: Sequence[str], deadline: Deadline) -> list[str]:
        await self._answer("wait_for")
        return list(apis[1:])

    async def discover_all(self, deadline: Deadline) -> None:
        await self._answer("discover_all")


class FakeHost:
    """A loop in a thread, with a node on it."""

    def __init__(self) -> None:
        self.closed = False
        self.asked: list[str] = []
        self.errors: list[BaseException] = []
        self.takes = 0.0
        self.lookup = Lookup(self)
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()

    def ensure(self) -> tuple[Any, asyncio.AbstractEventLoop]:
        return self, self.loop

    def run(self, make: Any) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(make(self), self.loop)

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.close()


@pytest.fixture
def host() -> Iterator[FakeHost]:
    made = FakeHost()
    yield made
    made.stop()


@pytest.fixture
def questions(host: FakeHost) -> NodeQuestions:
    node_host: Any = host
    return NodeQuestions(node_host)


def soon() -> Deadline:
    return Deadline.after(5.0)


def both_doors(questions: NodeQuestions) -> list[Callable[[], None]]:
    """Return lookups from a plain thread, and from another loop than the node's."""
    return [
        lambda: questions.resolve_blocking("auth", soon()),
        lambda: asyncio.run(questions.resolve("auth", soon())),
    ]


def test_both_channels_make_the_same_lookups(host: FakeHost, questions: NodeQuestions) -> None:
    """From a plain thread, and from another loop than the node's."""

    async def main() -> list[str]:
        await questions.resolve("auth", soon(), to_call=True, leaving=["a1"])
        await questions.resolve_all("auth", soon())
        return await questions.wait_for(["auth", "shop"], soon())

    assert asyncio.run(main()) == ["shop"]
    by_loop = list(host.asked)
    host.asked.clear()
    questions.resolve_blocking("auth", soon(), to_call=True, leaving=["a1"])
    questions.resolve_all_blocking("auth", soon())
    assert questions.wait_for_blocking(["auth", "shop"], soon()) == ["shop"]
    assert host.asked == by_loop == ["resolve auth True a1", "resolve_all auth", "wait_for"]


def test_nodes_own_loop_looks_up_directly(host: FakeHost, questions: NodeQuestions) -> None:
    """No code on that loop may wait for a thread."""
    host.run(lambda node: questions.discover_all(soon())).result(60)
    assert host.asked == ["discover_all"]


@pytest.mark.parametrize("error", [NodeStopped(), asyncio.CancelledError()], ids=["moved", "its loop ended"])
def test_next_node_is_asked(host: FakeHost, questions: NodeQuestions, error: BaseException) -> None:
    """If the first node leaves in the meantime."""
    host.errors = [error]
    questions.resolve_blocking("auth", soon())
    host.errors = [error]
    asyncio.run(questions.resolve("auth", soon()))
    assert len(host.asked) == 4


def test_no_lookup_after_the_end(host: FakeHost, questions: NodeQuestions) -> None:
    """The bus was closed in the meantime: there is no next node."""
    for ask in (
        lambda: questions.resolve_blocking("auth", soon()),
        lambda: asyncio.run(questions.resolve("a", soon())),
    ):
        host.errors, host.closed = [NodeStopped()], True
        with pytest.raises(LightbusShutdownInProgress, match="The bus was closed"):
            ask()


def test_errors_are_raised_at_the_caller(host: FakeHost, questions: NodeQuestions) -> None:
    """Unchanged, in both kinds of channels."""
    for ask in (
        lambda: questions.resolve_blocking("auth", soon()),
        lambda: asyncio.run(questions.resolve("a", soon())),
    ):
        host.errors = [UnknownApi("no such API")]
        with pytest.raises(UnknownApi, match="no such API"):
            ask()


def test_loop_that_does_not_answer(host: FakeHost, questions: NodeQuestions) -> None:
    """A second after the deadline, the waiting thread gets an error with the possible cause."""
    host.takes = 60.0
    with pytest.raises(LightbusTimeout, match=r"did not answer while 'auth' was looked for\. Does a handler block it"):
        questions.resolve_blocking("auth", Deadline.after(-0.95))


def test_cancelled_caller(host: FakeHost, questions: NodeQuestions) -> None:
    """It asks no further node."""
    host.takes = 60.0

    async def main() -> None:
        task = asyncio.ensure_future(questions.resolve("auth", soon()))
        while not host.asked:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert len(host.asked) == 1
