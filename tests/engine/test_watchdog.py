from __future__ import annotations

import asyncio
import logging
import time

import pytest

from lightbus.engine import watchdog
from lightbus.engine.watchdog import Watchdog


def block(watching: Watchdog) -> None:
    """Block the loop until the watchdog has reported it."""
    end = time.monotonic() + 10
    while not watching.reports and time.monotonic() < end:
        time.sleep(0.01)


def test_blocking_code_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    """A function that blocks the loop is reported once, with its name and line."""

    async def handler(watching: Watchdog) -> None:
        await asyncio.sleep(0)
        block(watching)

    async def main() -> Watchdog:
        watching = Watchdog()
        watching.start()
        try:
            await asyncio.create_task(handler(watching))
        finally:
            watching.stop()
        return watching

    with caplog.at_level(logging.WARNING, "lightbus.watchdog"):
        assert asyncio.run(main()).reports == 1
    (record,) = [
        record for record in caplog.records if record.name == "lightbus.watchdog"
    ]  # asyncio's debug mode tells it, too
    assert "by handler (" in record.getMessage()
    assert "test_watchdog.py" in record.getMessage()


def test_idle_loop_is_not_reported() -> None:
    """A loop without work is not blocked."""

    async def main() -> int:
        watching = Watchdog()
        watching.start()
        looks = asyncio.Event()
        asyncio.get_running_loop().call_later(watchdog.BLOCKED_AFTER + 3 * watchdog.LOOK_EVERY, looks.set)
        await looks.wait()
        watching.stop()
        return watching.reports

    assert asyncio.run(main()) == 0


def test_stopping_ends_the_thread() -> None:
    """No thread of the watchdog remains after it is stopped."""

    async def main() -> Watchdog:
        watching = Watchdog()
        watching.start()
        watching.stop()
        return watching

    assert not asyncio.run(main())._thread.is_alive()


def test_delay_of_the_loop() -> None:
    """`delay` is the delay of the loop's last beat, and during a block the present delay of the next one."""

    async def main() -> None:
        watching = Watchdog()
        watching.start()
        looks = asyncio.Event()
        asyncio.get_running_loop().call_later(2 * watchdog.LOOK_EVERY, looks.set)
        await looks.wait()
        before = watching.delay
        block(watching)
        assert watching.silence > watchdog.BLOCKED_AFTER
        assert watching.delay > before
        watching.stop()

    asyncio.run(main())


def test_watchdog_before_its_start() -> None:
    """The loop counts as responsive, and there is nothing to stop."""

    async def main() -> None:
        watching = Watchdog()
        assert (watching.silence, watching.delay) == (0.0, 0.0)
        watching.stop()

    asyncio.run(main())
