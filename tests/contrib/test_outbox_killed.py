"""Outboxes whose program is killed between commits and relaying: none is lost, and none fired that was rolled back."""

from __future__ import annotations

import importlib.util
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import lightbus
from helpers import Processes, scaled, wait_until
from lightbus import EventMessage, OnError
from lightbus.events.publishing import journal_maintenance, orphaned_journals

PROGRAMS = Path(__file__).parent / "programs"
EVENTS = scaled(10_000, least=500)
KILLS = 2


@pytest.fixture(
    params=["sqlite", *(pytest.param(each, marks=pytest.mark.database) for each in ("postgres", "mariadb"))]
)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of a new database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/shop.sqlite3"
    server = request.getfixturevalue(request.param)
    return str(server.url.format(server.new_database()))


@pytest.mark.long
@pytest.mark.parametrize(("by", "batch"), [("django", None), ("django", 100), ("sqlalchemy", 100)])
def test_program_is_killed(processes: Processes, url: str, by: str, batch: int | None) -> None:
    """Each committed order is fired at least once, those of a customer in order; no other is."""
    if importlib.util.find_spec(by) is None:
        pytest.skip(f"{by} is not installed")
    heard: list[int] = []
    listener = lightbus.create(service_name="hears")

    async def hear(message: EventMessage, number: int, customer: str) -> None:
        heard.append(number)

    def hear_all(messages: list[EventMessage]) -> None:
        heard.extend(message.kwargs["number"] for message in messages)

    how: dict[str, Any] = {"listener_name": "hear", "on_error": OnError.RETRY, "bus_options": {"since": "0"}}
    if batch is None:
        listener.sales.sold.listen(hear, **how)
    else:
        listener.sales.sold.listen(hear_all, batch=batch, batch_wait=0, **how)
    listener.client.start_in_background()
    environment = {"OUTBOX_URL": url, "OUTBOX_TOTAL": str(EVENTS), "OUTBOX_BY": by}
    try:
        for kill in range(1, KILLS + 1):
            program = processes.worker("sells", cwd=PROGRAMS, env=environment)
            wait_until(lambda kill=kill: len(set(heard)) >= kill * EVENTS // (KILLS + 1), 60)  # type: ignore[misc]
            program.kill()
        program = processes.worker("sells", cwd=PROGRAMS, env=environment)
        wait_until(lambda: set(heard) >= set(range(1, EVENTS + 1)), 60)
    finally:
        listener.client.close()
    assert set(heard) == set(range(1, EVENTS + 1))
    first = list(dict.fromkeys(heard))
    for customer in range(7):
        numbers = [number for number in first if number % 7 == customer]
        assert numbers == sorted(numbers)
    assert "ERROR" not in program.output


class HeldListener:
    """A listener of another service, which handles nothing until its gate is open."""

    def __init__(self) -> None:
        self.heard: list[int] = []
        self.gate = threading.Event()
        self.bus = lightbus.create(service_name="hears")
        how: dict[str, Any] = {"listener_name": "hear", "on_error": OnError.RETRY, "bus_options": {"since": "0"}}
        self.bus.sales.sold.listen(self._hear, **how)

    def _hear(self, message: EventMessage, number: int, customer: str) -> None:
        self.gate.wait()
        self.heard.append(number)

    def first_by_customer(self) -> list[list[int]]:
        """Return the orders of each customer, as they arrived first."""
        first = list(dict.fromkeys(self.heard))
        return [[each for each in first if each % 7 == customer] for customer in range(7)]

    def is_live_at(self, number: int) -> bool:
        """Return whether it is known to so many workers that fire its events, and to all that there are."""
        worker: Any = self.bus.client.worker
        publishers = self.bus.client.engine.snapshot.publishers("sales")
        return len(publishers) == number and all(worker.parts.consumer.is_live_at(each.instance) for each in publishers)

    def close(self) -> None:
        self.gate.set()
        self.bus.client.close()


def in_order(total: int) -> list[list[int]]:
    """Return the orders of each customer, as they were stored."""
    return [[each for each in range(1, total + 1) if each % 7 == customer] for customer in range(7)]


def relayed(database: Path) -> int:
    """Return how many orders were committed, and their events fired."""
    with closing(sqlite3.connect(database)) as connection:
        [[waiting]] = connection.execute("SELECT count(*) FROM lightbus_outbox")
        return 0 if waiting else int(connection.execute("SELECT count(*) FROM orders").fetchone()[0])


@pytest.mark.long
def test_restarted_program_continues_its_journal(
    processes: Processes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker of another service that sees journals without a process leaves them to it: its events stay in order."""
    pytest.importorskip("sqlalchemy")
    monkeypatch.setattr(orphaned_journals, "FIRST_LOOK", 0.0)
    monkeypatch.setattr(orphaned_journals, "RESTART", 600.0)  # a program starts as late as a busy machine lets it
    monkeypatch.setattr(journal_maintenance, "ADOPT_EVERY", 0.01)
    monkeypatch.setattr(journal_maintenance, "CHECKPOINT_EVERY", 0.05)
    looks: list[object] = []
    look = orphaned_journals.OrphanedJournals.look

    async def counting(self: Any, in_thread: Any) -> None:
        await look(self, in_thread)
        looks.append(self)

    monkeypatch.setattr(orphaned_journals.OrphanedJournals, "look", counting)
    held = HeldListener()
    listener = held.bus

    def is_gone() -> bool:
        peers = listener.client.engine.snapshot.peers.values()
        return not any(peer.is_live and peer.announcement.service == "sells" for peer in peers)

    listener.client.start_in_background()
    database = tmp_path / "shop.sqlite3"
    environment = {"OUTBOX_URL": f"sqlite:///{database}", "OUTBOX_BY": "sqlalchemy"}
    journals = []
    try:
        for total in (200, 400):
            program = processes.worker("sells", cwd=PROGRAMS, env={**environment, "OUTBOX_TOTAL": str(total)})
            journals.append(program.wait_for_line(r"Events are kept in (.*)$")[1])
            wait_until(lambda total=total: relayed(database) == total, 60)  # type: ignore[misc]
            if total == 200:
                program.kill()
                wait_until(is_gone)
                seen = len(looks)
                wait_until(lambda seen=seen: len(looks) >= seen + 3)  # type: ignore[misc]
        held.gate.set()
        wait_until(lambda: len(set(held.heard)) == 400, 180)
    finally:
        held.close()
    assert held.first_by_customer() == in_order(400)
    assert journals[0] == journals[1]


@pytest.mark.long
def test_worker_that_lives_on_waits_for_a_killed_one(processes: Processes, tmp_path: Path) -> None:
    """Of two workers the one is killed that has fired events, none of which is handled: the other one's come later."""
    pytest.importorskip("sqlalchemy")
    held, database = HeldListener(), tmp_path / "shop.sqlite3"
    environment = {"OUTBOX_URL": f"sqlite:///{database}", "OUTBOX_BY": "sqlalchemy", "OUTBOX_TOTAL": "0"}

    def sell(first: int, last: int) -> None:
        code = f"import sells; sells.shop.sell(range({first}, {last + 1}), is_kept=True)"
        assert processes.python("-c", code, cwd=PROGRAMS, env=environment).wait() == 0

    held.bus.client.start_in_background()
    try:
        workers = {}
        for _ in range(2):
            worker = processes.worker("sells", cwd=PROGRAMS, env=environment)
            file = Path(worker.wait_for_line(r"Events are kept in (.*)$")[1])
            worker.wait_for_line("Ready")
            workers[f"sells/{file.stem}"] = worker
        wait_until(lambda: held.is_live_at(2))
        sell(1, 100)
        wait_until(lambda: relayed(database) == 100)
        [turn] = file.parent.parent.glob("relayed-*")
        workers.pop(turn.read_text()).kill()
        [other] = workers.values()
        sell(101, 200)
        other.wait_for_line("Serving the journal .* too, whose process has ended")
        held.gate.set()
        wait_until(lambda: len(set(held.heard)) == 200, 180)
    finally:
        held.close()
    assert held.first_by_customer() == in_order(200)
