"""The problems that pages show: their order, and the grouping by cause."""

from __future__ import annotations

from dataclasses import replace

import pytest

from helpers.scripted_bus import peer
from lightbus.cli.checks.finding import Finding, Level
from lightbus.cli.checks.processes import killed
from lightbus.cli.commands.peers import ENDED_STATE, PeerReport
from lightbus.dashboard.problems import current_problems, service_of
from lightbus.dashboard.round import Round
from lightbus.engine.peer_api import HAS_STOPPED, NOT_KEPT

MAIL = peer("mail", instance="c" * 16)

DESERTED = Finding(
    level=Level.WARNING, check="groups", text="the group mail-greet has 5 events to handle and no process.",
    remedy="Start its service.", group="mail-greet", is_deserted=True,
)  # fmt: skip


def told(*findings: Finding, state: str = "up") -> list[str]:
    """Return the problems if a process of the service mail is in this state."""
    now = Round(number=1, at=1.0, clock=1.0, reports=[PeerReport(peer=MAIL, state=state)])
    return [each.text for each in current_problems([*findings], now)]


def test_losses_of_events_come_first() -> None:
    """Among findings of one level; errors come before all warnings."""

    def finding(check: str, text: str, level: Level = Level.WARNING) -> Finding:
        return Finding(level=level, check=check, text=text)

    found = [
        finding("versions", "differ"), finding("health", "slow"), finding("health", f"{NOT_KEPT} full"),
        finding("groups", "behind"), finding("names", "same", Level.ERROR),
    ]  # fmt: skip
    shown = current_problems(found, Round(number=1, at=1.0, clock=1.0))
    assert [each.text for each in shown] == ["same", f"{NOT_KEPT} full", "behind", "slow", "differ"]


def test_consequences_of_a_loss_are_merged() -> None:
    """A worker was killed, so its group has no members: that is one problem with one remedy."""
    lost = killed(MAIL.announcement)
    for findings in ([DESERTED], [lost, DESERTED], [DESERTED, lost]):
        assert told(*findings, state=ENDED_STATE) == [f"{lost.text} So {DESERTED.text}"]


def test_consequences_of_a_stopped_listener_are_merged() -> None:
    """Its worker reports it: the waiting events of the group are no separate problem."""
    text = f"mail cccc: The listener greet {HAS_STOPPED} no"
    stopped = Finding(level=Level.ERROR, check="health", text=text, about=frozenset({MAIL.instance}))
    assert told(DESERTED, stopped) == [f"{text} So {DESERTED.text}"]


@pytest.mark.parametrize("group", ["shop-greet", "mailing-greet"])
def test_a_group_of_another_service_is_separate(group: str) -> None:
    """Also if its name begins alike; and so is one whose service was stopped on purpose."""
    other = Finding(level=Level.WARNING, check="groups", text="it has nobody", group=group, is_deserted=True)
    assert told(other, state=ENDED_STATE) == [killed(MAIL.announcement).text, other.text]
    assert told(DESERTED) == [DESERTED.text]


def test_a_silent_peer_is_reported_once() -> None:
    """Not again for each request; but a peer that answers some requests is."""
    about = frozenset({MAIL.instance})
    silent = Finding(level=Level.ERROR, check="peers", text="mail does not answer.", about=about)
    unanswered = Finding(level=Level.WARNING, check="answers", text="no answer to stats", about=about)
    assert told(silent, unanswered) == [silent.text]
    assert told(unanswered) == [unanswered.text]


def test_a_peer_that_answers_again_is_no_problem() -> None:
    """The checks ran while it was silent; they run again only after a while."""
    silent = Finding(level=Level.ERROR, check="peers", text="does not answer", about=frozenset({MAIL.instance}))
    several = replace(silent, about=frozenset({MAIL.instance, "d" * 16}))
    missing = replace(silent, about=frozenset())
    for rtt, expected in ((None, [silent, several, missing]), (0.1, [several, missing])):
        reports = [PeerReport(peer=MAIL, state="up" if rtt else "suspect", rtt=rtt)]
        assert (
            current_problems([silent, several, missing], Round(number=1, at=1.0, clock=1.0, reports=reports))
            == expected
        )


def test_service_of_a_group() -> None:
    """The longest service name that the group's name begins with."""
    services = {"mail", "mail-eu", "shop"}
    assert [service_of(group, services) for group in ("mail-greet", "mail-eu-greet", "mailing")] == [
        "mail", "mail-eu", ""
    ]  # fmt: skip
