"""Outboxes whose program is killed between commits and relaying: none is lost, and none fired that was rolled back."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

import lightbus
from helpers import Processes, scaled, wait_until
from lightbus import EventMessage, OnError

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
