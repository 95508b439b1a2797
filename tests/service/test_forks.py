"""Forks by the user's code: the message and the end of a child that returns."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from lightbus.service import forks
from lightbus.service.forks import CHANGING, FORKS, end_child, ended_in_child

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")


class Untellable(Exception):
    """It cannot even be printed."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    @property
    def __traceback__(self) -> None:  # type: ignore[override]
        raise RuntimeError("no trace")


def in_child(work: Callable[[], object], error: Path) -> int:
    """Run a function in a child that writes its standard error to a file; return its exit code, 99 if it returned."""
    child = os.fork()
    if not child:
        descriptor = os.open(error, os.O_CREAT | os.O_WRONLY)
        os.dup2(descriptor, 2)
        try:
            work()
        finally:
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (None, 0, "which a handler forked, came back from it and was ended; its parent continues. End a child with"),
        (SystemExit(), 0, ""),
        (SystemExit(3), 3, ""),
        (SystemExit(259), 3, ""),
        (SystemExit("it is over"), 1, "it is over\n"),
        (ValueError("no"), 1, "ValueError: no"),
        (ValueError("caf\udce9"), 1, "ValueError: caf\\udce9"),
        (KeyboardInterrupt(), 1, "KeyboardInterrupt"),
    ],
)
def test_a_child_ends_as_a_program_would(tmp_path: Path, error: BaseException | None, code: int, words: str) -> None:
    """With the exit code and the message of a program."""
    assert in_child(lambda: end_child(error), tmp_path / "err") == code
    said = (tmp_path / "err").read_text()
    assert words in said if words else said == ""


def test_unprintable_exception_is_named_by_its_class() -> None:
    """Its class is in the message."""
    code, text = forks._outcome(Untellable())
    assert code == 1
    assert "Untellable" in text


def test_child_ends_with_a_closed_standard_error(tmp_path: Path) -> None:
    """Without a message."""

    def work() -> None:
        os.close(2)
        end_child()

    assert in_child(work, tmp_path / "err") == 0


def test_forks_are_counted_in_the_child_only(tmp_path: Path) -> None:
    """So the code that runs the user's code notices that it is in a child."""
    before = FORKS.count
    assert in_child(lambda: os._exit(FORKS.count - before), tmp_path / "err") == 1
    assert FORKS.count == before


def test_no_child_has_a_lock_held_that_another_thread_holds(tmp_path: Path) -> None:
    """A fork waits until what is declared is not being changed."""
    held, ended = threading.Event(), threading.Event()

    def change() -> None:
        with CHANGING:
            held.set()
            ended.wait(0.2)

    def declare() -> None:
        thread = threading.Thread(target=lambda: CHANGING.acquire(timeout=60) and os._exit(5))
        thread.start()
        thread.join()

    thread = threading.Thread(target=change)
    thread.start()
    held.wait()
    assert in_child(declare, tmp_path / "error") == 5
    thread.join()
    with CHANGING:
        pass


def test_a_loop_ends_in_a_child_that_was_forked_on_it(tmp_path: Path) -> None:
    """The parent does the rest of that turn; its loop continues."""
    done: list[str] = []

    async def main() -> int:
        loop = asyncio.get_running_loop()
        loop.call_soon(done.append, "of the parent")
        with ended_in_child(loop):
            child = os.fork()
            if not child:
                os.dup2(os.open(tmp_path / "err", os.O_CREAT | os.O_WRONLY), 2)
                while True:
                    await asyncio.sleep(0)
        await asyncio.sleep(0)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    assert asyncio.run(main()) == 0
    assert done == ["of the parent"]
    assert "came back from it and was ended" in (tmp_path / "err").read_text()


def test_other_loops_continue_in_a_child(tmp_path: Path) -> None:
    """Only loops of running workers are ended."""

    async def main() -> int:
        with ended_in_child(asyncio.get_running_loop()):
            pass
        child = os.fork()
        if not child:
            await asyncio.sleep(0)
            os._exit(7)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    assert asyncio.run(main()) == 7
