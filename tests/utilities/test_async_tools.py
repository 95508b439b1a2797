from __future__ import annotations

import asyncio

import pytest

from lightbus.deadline import Deadline, ServedCall, current_call
from lightbus.exceptions import CannotBlockHere, LightbusTimeout
from lightbus.utilities.async_tools import block


async def answer() -> int:
    await asyncio.sleep(0)
    return 42


@pytest.mark.parametrize("timeout", [None, 30])
def test_coroutine_is_run_to_its_end(timeout: float | None) -> None:
    """Its result is returned to synchronous code."""
    assert block(answer(), timeout=timeout) == 42


def test_any_awaitable_is_run() -> None:
    """What can be awaited can be waited for, also if it is no coroutine."""

    class Later:
        def __await__(self):  # type: ignore[no-untyped-def]
            return answer().__await__()

    assert block(Later()) == 42


def test_own_loop_of_a_thread_stays_set() -> None:
    """A program that has set one finds it afterwards."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        assert block(answer()) == 42
        assert asyncio.get_event_loop() is loop
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def test_time_is_bounded() -> None:
    """When the time is over the coroutine is cancelled, and the error names it."""
    ended: list[str] = []

    async def forever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")

    with pytest.raises(LightbusTimeout, match=r"forever\(\) did not end within 0.01 s and was cancelled"):
        block(forever(), timeout=0.01)
    assert ended == ["cancelled"]


def test_timeout_of_the_coroutine_itself() -> None:
    """A TimeoutError that the coroutine raises is its own, and reaches the caller as it is."""

    async def fail() -> None:
        raise TimeoutError("of its own")

    with pytest.raises(TimeoutError, match="of its own") as caught:
        block(fail(), timeout=30)
    assert not isinstance(caught.value, LightbusTimeout)


def test_refused_inside_a_running_loop() -> None:
    """In a running loop it is refused with the remedy, and the coroutine is closed without a warning."""

    async def main() -> None:
        block(answer())

    with pytest.raises(CannotBlockHere, match=r"answer\(\) cannot be waited for .* Await it instead"):
        asyncio.run(main())


def test_future_is_refused_inside_a_running_loop() -> None:
    """So is an awaitable that is no coroutine."""

    async def main() -> None:
        block(asyncio.get_running_loop().create_future())

    with pytest.raises(CannotBlockHere, match="Future"):
        asyncio.run(main())


def test_deadline_is_inherited() -> None:
    """The coroutine sees the context of its caller, and so the deadline of the call being served."""

    async def left() -> ServedCall | None:
        return current_call.get()

    deadline = ServedCall(Deadline.after(5))
    token = current_call.set(deadline)
    try:
        assert block(left()) is deadline
    finally:
        current_call.reset(token)
