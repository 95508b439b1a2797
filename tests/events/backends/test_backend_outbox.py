"""Events that a backend cannot accept wait in the outbox, and later ones behind them."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lightbus.adapters.sqlite.outbox import HostOutbox
from lightbus.events.backends.backend_outbox import BackendOutbox, Keepable
from lightbus.exceptions import EventBackendUnreachable, JournalError

AWAY = EventBackendUnreachable("It is away.")


def event(number: int, name: str = "sold") -> Keepable:
    """Return an event."""
    return Keepable(name, f"id-{number}", "tea", b"%d" % number)


def run(directory: Path, test: Callable[[BackendOutbox, Counter[str]], Awaitable[None]]) -> None:
    """Run a test with an outbox."""

    async def main() -> None:
        counts: Counter[str] = Counter()
        with ThreadPoolExecutor(1) as executor:
            await test(BackendOutbox(HostOutbox(directory), "shop", lambda: executor, counts), counts)

    asyncio.run(main())


def test_events_are_kept_in_order(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Under the service's name, counted, and logged once with the reason; until they are handed over."""
    caplog.set_level(logging.INFO)

    async def test(outbox: BackendOutbox, counts: Counter[str]) -> None:
        await outbox.keep("shop", [event(1), event(2, "opened"), event(3)], AWAY)
        assert await outbox.has("shop")
        await outbox.keep("shop", [event(4)], None)
        waiting = HostOutbox(tmp_path).waiting()
        assert [(each.id, each.event, each.key, each.service) for each in waiting] == [
            ("id-1", "sold", "tea", "shop"),
            ("id-2", "opened", "tea", "shop"),
            ("id-3", "sold", "tea", "shop"),
            ("id-4", "sold", "tea", "shop"),
        ]
        assert counts["put_by"] == 4
        [problem] = outbox.problems
        assert problem.startswith("Events of shop wait in the outbox")
        assert problem.endswith("It is away.")
        assert len([text for text in caplog.messages if "are put into the outbox" in text]) == 1
        HostOutbox(tmp_path).delivered([each.id for each in waiting])
        assert not await outbox.has("shop")
        assert outbox.problems == []
        assert "The events of shop that waited in the outbox were handed over to their backend" in caplog.messages

    run(tmp_path, test)


def test_events_of_an_earlier_process_come_first(tmp_path: Path) -> None:
    """They are read once; if there are none, nothing is read again, and no file is made."""

    async def test(outbox: BackendOutbox, counts: Counter[str]) -> None:
        assert not await outbox.has("stock")
        assert not HostOutbox(tmp_path).exists()
        HostOutbox(tmp_path).put(id="1", api="shop", event="sold", key=None, record=b"")
        assert await outbox.has("shop")
        assert "an earlier process" in outbox.problems[0]
        assert not await outbox.has("stock")

    run(tmp_path, test)


def test_outbox_that_cannot_be_read_is_not_waited_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The error is logged; adding an event fails."""
    (tmp_path / "outbox.sqlite").mkdir()

    async def test(outbox: BackendOutbox, counts: Counter[str]) -> None:
        assert not await outbox.has("shop")
        assert "may be overtaken" in caplog.text
        with pytest.raises(JournalError):
            await outbox.keep("shop", [event(1)], AWAY)

    run(tmp_path, test)
