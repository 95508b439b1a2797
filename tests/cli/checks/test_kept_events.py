"""The findings of doctor about stored events, and groups that have to handle them."""

from __future__ import annotations

import asyncio
import re
import signal
from typing import TYPE_CHECKING, Any

import pytest

from helpers.damage import damage
from helpers.scripted_bus import ScriptedBus, peer
from lightbus.adapters.sqlite.outbox import HostOutbox
from lightbus.cli.checks import kept_events
from lightbus.cli.checks.finding import Check, CheckContext, Finding, Level
from lightbus.cli.commands.peers import PeerReport

if TYPE_CHECKING:
    from helpers.surroundings import Surroundings

    from ..conftest import Commands


def test_refused_events_in_the_outbox_are_reported_once(commands: Commands, surroundings: Surroundings) -> None:
    """Refused events in a host's outbox are reported once, however many processes report them."""
    commands.services()
    outbox = HostOutbox(surroundings.data / surroundings.bus)
    outbox.put(id="1", api="mail", event="sent", key=None, record=b"")
    outbox.refuse([("1", "a digest", "It has no event 'sent'.")])
    [warning] = [each for each in commands.json("doctor", code=1) if each["level"] != "ok"]
    assert warning["check"] == "outbox"
    assert f"1 events of mail.sent are kept in the outbox {outbox.path}" in warning["text"]
    damage(outbox.path)
    assert "outbox.sqlite.corrupt-1" in commands.run("doctor", code=1).stdout


def test_group_that_handles_nothing_is_warned_of(commands: Commands) -> None:
    """A group with members and a lag that handles nothing is reported, with what to check."""
    commands.services()
    mail = commands.listening("mail", replace=("max_deliveries=1", "max_deliveries=1000"))
    commands.run("fire", "auth.user_registered", "username=sally")
    mail.wait_for_line("no sally here")
    findings = [each for each in commands.json("doctor", code=1) if each["check"] == "groups"]
    assert len(findings) == 1
    assert re.search(r"mail-fails of auth at auth \w{4} has 1 events to handle, and handled none", findings[0]["text"])
    assert "RETRY" in findings[0]["remedy"]


@pytest.mark.long
def test_a_group_whose_process_does_not_answer(commands: Commands) -> None:
    """The remedy is not to delete its events: its process exists, and may continue."""
    auth = commands.serve("auth")
    auth.wait_for_line("Ready")
    shop = commands.listening("shop")
    shop.signal(signal.SIGSTOP)
    try:
        commands.run("fire", "auth.user_registered", "username=sally")
        auth.wait_for_line("of the group shop-greeter sent nothing for")
        findings = [each for each in commands.json("doctor", code=2) if each["check"] == "groups"]
    finally:
        shop.signal(signal.SIGCONT)
    [found] = findings
    assert re.search(r"has 1 events to handle and no process that answers: shop .* does not\.$", found["text"])
    assert "kill -CONT" in found["remedy"]
    assert "groups remove" not in found["remedy"]


def test_a_listener_that_has_stopped(commands: Commands) -> None:
    """It is an error with the failure; `peers` shows it, too, as do the peer's statistics."""
    commands.services()
    mail = commands.listening("mail", replace=("RETRY", "STOP_LISTENER"))
    commands.run("fire", "auth.user_registered", "username=sally")
    mail.wait_for_line("The listener fails of auth.user_registered has stopped")
    commands.run("fire", "auth.user_registered", "username=sally")
    findings = commands.json("doctor", code=2)
    [group] = [each for each in findings if "events to handle" in each["text"]]
    assert re.search(
        r"mail-fails of auth at auth \w{4} has 1 events to handle and no listener: that of mail ", group["text"]
    )
    assert (group["text"][-12:], group["remedy"][:16]) == ("has stopped.", "Mend its handler")
    [finding] = [each for each in findings if each["check"] == "health"]
    assert finding["level"] == "error"
    assert (
        "fails of auth.user_registered has stopped, since its handler failed: ValueError: no sally" in finding["text"]
    )
    told = {each["service"]: each for each in commands.json("peers")}
    assert (told["mail"]["stopped_listeners"], told["auth"]["stopped_listeners"]) == (["fails"], [])
    assert "up, 1 listener stopped" in commands.text("peers")
    assert "stopped" in commands.text("peers", "info", "mail")


def test_events_that_wait_while_no_worker_runs(commands: Commands, surroundings: Surroundings) -> None:
    """Events in this host's outbox without a worker are reported, with what to start."""
    outbox = HostOutbox(surroundings.data / surroundings.bus)
    outbox.put(id="1", api="mail", event="sent", key=None, record=b"")
    text = commands.run("doctor", "--wait", "0.2", code=1).stdout
    assert f"warning outbox: 1 events of mail wait on this host, in {outbox.path}, and no worker" in text


ONE, TWO = (peer("shop", instance=digit * 16) for digit in "ab")


def found_by(check: Check) -> list[Finding]:
    """Return the findings of a check on a bus with two workers of a shop."""
    seen = [PeerReport(peer=each, state="up", rtt=0.001) for each in (ONE, TWO)]
    bus: Any = ScriptedBus({})

    async def look() -> list[Finding]:
        async def ask_all(peers: Any, procedure: str) -> list[dict[str, Any]]:
            losses = ["It was too slow, and missed 5 events.", "Events were lost 3 times."]
            return [{"losses": losses, "listeners": []}, {"listeners": []}]

        bus.ask_all = ask_all
        return [finding async for finding in check(CheckContext(bus=bus, reports=seen))]

    return asyncio.run(look())


def test_each_group_is_reported_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over all publishers, and for dead letters that a publisher counts for each of its APIs."""
    usual = {"name": "mail-greet", "publisher": "shop", "lag": 3, "dead": 2, "members": {}, "mixed": False}
    places = [("orders", ONE), ("stock", ONE), ("orders", TWO)]
    groups = [{**usual, "api": api, "instance": place.instance} for api, place in places]

    async def on_bus(bus: Any) -> list[dict[str, Any]]:
        return groups

    monkeypatch.setattr(kept_events, "groups_on_bus", on_bus)
    found = found_by(kept_events.check_groups)
    assert [each.text for each in found] == [
        "the group mail-greet of orders at shop aaaa, shop bbbb has 6 events to handle and no process.",
        "the group mail-greet of stock at shop aaaa has 3 events to handle and no process.",
        "Dead letters of the group mail-greet of orders and stock at shop aaaa, shop bbbb: 4.",
    ]
    assert [each.is_deserted for each in found] == [True, True, False]


def test_losses_of_a_group_are_reported_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over all events and publishers; another group has its own losses."""
    usual = {"max_events": 0, "events": 0, "bytes": 0, "max_bytes": 0}

    def lost(group: str, event: str, count: int) -> dict[str, Any]:
        return {"group": group, "api": "orders", "event": event, "count": count}

    async def told(bus: Any, procedure: str) -> Any:
        first = [lost("mail", "created", 5), lost("mail", "paid", 2), lost("stock", "paid", 1)]
        return [(ONE, [{**usual, "lost": first}]), (TWO, [{**usual, "lost": [lost("mail", "created", 3)]}])]

    monkeypatch.setattr(kept_events, "ask_publishers", told)
    mail, stock = found_by(kept_events.check_journals)
    assert mail.text == (
        f"8 events of orders.created and 2 events of orders.paid were deleted by {ONE.announcement}, "
        f"{TWO.announcement} before the group mail had handled them."
    )
    assert (mail.level, mail.about) == (Level.ERROR, {ONE.instance, TWO.instance})
    assert stock.text.startswith("1 events of orders.paid were deleted")


def test_losses_of_a_process_are_reported_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Together: they mostly have one cause."""
    monkeypatch.setattr(kept_events, "_refused_here", lambda context: [])
    [found] = found_by(kept_events.check_health)
    assert found.text.endswith("It was too slow, and missed 5 events. Events were lost 3 times.")
