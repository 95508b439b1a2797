"""The rounds of requests: while a page is open, and for any answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from helpers import wait_until_async
from helpers.clients import AuthApi
from lightbus import BusPath
from lightbus.cli.checks.finding import Finding, Level
from lightbus.cli.checks.processes import check_answers
from lightbus.cli.support.connection import Connection
from lightbus.core.peers import PeerState
from lightbus.dashboard import watcher
from lightbus.dashboard.watcher import Watcher
from lightbus.membership.link import NOTHING_LISTENS
from lightbus.testing import MemoryBus


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let rounds follow each other at once, and use a short lease."""
    monkeypatch.setattr(watcher, "EVERY", 0.02)
    monkeypatch.setattr(watcher, "LEASE", 0.05)
    monkeypatch.setattr(watcher, "CHECKS", {})


Watch = Callable[[Watcher], Awaitable[Any]]


@pytest.fixture
def watches(on_bus: Any) -> Callable[[Watch], Any]:
    """Return a function that runs a coroutine with a watcher, and ends the watcher."""

    def run(use: Watch) -> Any:
        async def main(bus: Connection) -> Any:
            watching = Watcher(bus)
            try:
                return await use(watching)
            finally:
                await watching.close()

        return on_bus(main)

    return run


def test_no_requests_without_viewers(shop: BusPath, watches: Any) -> None:
    """Rounds begin with the first viewer, continue with the second, and end a little after the last."""

    async def main(watching: Watcher) -> None:
        assert not watching.is_watching
        with watching.looking():
            with watching.looking():
                await watching.round_after(0)
            assert (await watching.round_after(2)).number == 3
        assert watching.is_watching
        await wait_until_async(lambda: not watching.is_watching)
        left = watching.now
        assert left is not None
        with watching.looking():
            again = await watching.round_after(left.number)
        assert again.number == left.number + 1
        assert watching.before is None  # rates over the time in between would be of another time
        assert len(again.reports) == 1

    watches(main)


def test_a_round_contains_the_data_of_all_pages(shop: BusPath, watches: Any) -> None:
    """The worker's report, its groups and journals, and its rates."""

    async def main(watching: Watcher) -> None:
        await asyncio.to_thread(shop.auth.check_password, username="ada", password="x")
        await asyncio.to_thread(shop.auth.user_registered, username="ada")
        with watching.looking():
            told = await watching.round_after(0)
            [seen] = told.reports
            assert (seen.state, seen.peer.announcement.service) == ("up", "shop")
            assert told.skews.keys() == {seen.peer.instance}
            assert seen.stats["procedures"][0]["calls"] == 1
            assert [each["name"] for each in told.groups] == ["shop-greet"]
            assert [each["publisher"] for each in told.journals] == ["shop"]
            await asyncio.to_thread(shop.auth.check_password, username="ada", password="x")
            number = told.number
            while not any(watching.series.of("calls")):
                number = (await watching.round_after(number)).number
        assert watching.series.of("lag/auth/shop-greet")[-1] == 0

    watches(main)


@pytest.mark.parametrize("answer", [None, "soon", [1]])
def test_a_peer_with_invalid_answers(shop: BusPath, watches: Any, monkeypatch: pytest.MonkeyPatch, answer: Any) -> None:
    """The other peers are shown all the same."""

    async def ping(peer: Any, procedure: str, **_: Any) -> Any:
        return answer

    async def main(watching: Watcher) -> None:
        monkeypatch.setattr(watching.bus, "ask", ping)
        with watching.looking():
            told = await watching.round_after(0)
        assert [each.state for each in told.reports] == ["suspect"]
        assert told.skews == {}

    watches(main)


def test_a_failing_round(
    shop: BusPath, watches: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged once, and the next one is made."""
    known, failures = Connection.known, [OSError("no room")] * 3

    def fails(bus: Connection) -> Any:
        if failures:
            raise failures.pop()
        return known(bus)

    async def main(watching: Watcher) -> None:
        monkeypatch.setattr(Connection, "known", fails)
        with watching.looking():
            await watching.round_after(0)

    watches(main)
    assert [each.levelno for each in caplog.records if "could not ask the bus" in each.getMessage()] == [logging.ERROR]


def test_a_failing_check(
    shop: BusPath, watches: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The other checks are run, repeatedly; it is logged once."""
    made = 0

    async def breaks(context: Any) -> Any:
        raise KeyError("of another version")
        yield

    async def finds(context: Any) -> Any:
        nonlocal made
        made += 1
        yield Finding(level=Level.OK, check="peers", text="well")
        yield Finding(level=Level.WARNING, check="peers", text="slow")

    monkeypatch.setattr(watcher, "CHECKS", {"what breaks": breaks, "what finds": finds})
    monkeypatch.setattr(watcher, "EXAMINE_EVERY", 0.02)

    async def main(watching: Watcher) -> list[str]:
        with watching.looking():
            await wait_until_async(lambda: made >= 2 and watching.examined)
        return [each.text for each in watching.findings]

    assert watches(main) == ["slow", "well"]
    assert len([each for each in caplog.records if "'what breaks' failed" in each.getMessage()]) == 1


def test_a_missing_answer_is_reported_once(shop: BusPath, watches: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the next check; and not for a peer that has gone."""
    monkeypatch.setattr(watcher, "CHECKS", {"answers": check_answers})
    monkeypatch.setattr(watcher, "EXAMINE_EVERY", 0.02)

    async def main(watching: Watcher) -> None:
        bus = watching.bus
        bus.unanswered["f" * 16] = "long ago"
        with watching.looking():
            told = await watching.round_after(0)
            await wait_until_async(lambda: watching.examined)
            assert watching.findings == []
            bus.unanswered |= {told.reports[0].peer.instance: "too busy", "f" * 16: "gone since"}
            bus.silent.add("f" * 16)
            await wait_until_async(lambda: bool(watching.findings))
            assert [each.text for each in watching.findings] == ["too busy"]
            await wait_until_async(lambda: not watching.findings)
        assert (bus.unanswered, bus.silent) == ({}, set())

    watches(main)


def test_many_are_asked_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred workers cost the dashboard no more than forty."""
    monkeypatch.setattr(watcher, "EVERY", 2.0)
    assert [watcher.interval(peers) for peers in (0, 40, 100)] == [2.0, 2.0, 5.0]


def test_a_viewer_after_a_pause_waits_for_a_new_round(shop: BusPath, watches: Any) -> None:
    """The last round and its findings are not shown."""

    async def main(watching: Watcher) -> None:
        with watching.looking():
            await watching.round_after(0)
            await wait_until_async(lambda: watching.examined)
        watching.findings = [Finding(level=Level.WARNING, check="peers", text="long ago")]
        await wait_until_async(lambda: not watching.is_watching)
        assert (watching.examined, watching.findings) == (False, [])
        with watching.looking():
            assert len((await watching.round_after(-1)).reports) == 1

    watches(main)


def test_a_worker_that_was_lost_is_remembered(
    shop: BusPath, hub: MemoryBus, watches: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On any host: it is shown as gone, with its past counts, for a while."""
    second = hub.create(service_name="shop")
    second.client.register_api(AuthApi())
    hub.start(second)

    async def main(watching: Watcher) -> None:
        await asyncio.to_thread(shop.auth.check_password, username="ada", password="x")
        with watching.looking():
            told = await watching.round_after(0)
            while len(told.live) < 2 or not told.edges:
                told = await watching.round_after(told.number)
            edges, known = told.edges, watching.bus.known
            lost = second.client.engine.identity.instance
            monkeypatch.setattr(watching.bus, "known", lambda: [each for each in known() if each.instance != lost])
            while not any(each.has_ended for each in told.reports):
                told = await watching.round_after(told.number)
            assert [each.peer.instance for each in told.reports if each.has_ended] == [lost]
            assert (len(told.live), told.edges) == (1, edges)
            monkeypatch.setattr(watcher, "GONE_FOR", 0.0)
            while any(each.has_ended for each in told.reports):
                told = await watching.round_after(told.number)

    watches(main)


def test_a_peer_that_returns_is_not_gone(shop: BusPath, watches: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a connection that was cut for a while."""

    async def main(watching: Watcher) -> None:
        with watching.looking():
            told = await watching.round_after(0)
            with monkeypatch.context() as away:
                away.setattr(watching.bus, "known", list)
                while not any(each.has_ended for each in told.reports):
                    told = await watching.round_after(told.number)
            while len(told.live) < 1:
                told = await watching.round_after(told.number)
            assert [each.has_ended for each in told.reports] == [False]

    watches(main)


def test_a_worker_whose_host_refuses_connections_is_lost(
    shop: BusPath, watches: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node keeps dialing it, and still knows it; one that is only silent may still run."""

    async def main(watching: Watcher) -> None:
        with watching.looking():
            told = await watching.round_after(0)
            [up] = watching.bus.known()
            for problem, state in ((NOTHING_LISTENS, "gone"), ("does not answer", "suspect")):
                down = replace(up, state=PeerState.SUSPECT, problem=problem)
                monkeypatch.setattr(watching.bus, "known", lambda down=down: [down])
                while [each.state for each in told.reports] != [state]:
                    told = await watching.round_after(told.number)

    watches(main)


def test_a_service_that_is_stopped_on_purpose_is_not_gone(shop: BusPath, watches: Any) -> None:
    """It said goodbye: no one has to check it."""

    async def main(watching: Watcher) -> None:
        with watching.looking():
            told = await watching.round_after(0)
            assert len(told.live) == 1
            await asyncio.to_thread(shop.client.close)
            while told.live:
                told = await watching.round_after(told.number)
            told = await watching.round_after(told.number + 1)
            assert not any(each.has_ended for each in told.reports)

    watches(main)
