"""What is wrong, as pages tell it: in which order, and what is one matter."""

from __future__ import annotations

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
    """Return what is told where a process of the service mail is in this state."""
    now = Round(number=1, at=1.0, clock=1.0, reports=[PeerReport(peer=MAIL, state=state)])
    return [each.text for each in current_problems([*findings], now)]


def test_what_loses_events_is_told_first() -> None:
    """Of what is equally bad; and what is an error before all warnings."""

    def finding(check: str, text: str, level: Level = Level.WARNING) -> Finding:
        return Finding(level=level, check=check, text=text)

    found = [
        finding("versions", "differ"), finding("health", "slow"), finding("health", f"{NOT_KEPT} full"),
        finding("groups", "behind"), finding("names", "same", Level.ERROR),
    ]  # fmt: skip
    shown = current_problems(found, Round(number=1, at=1.0, clock=1.0))
    assert [each.text for each in shown] == ["same", f"{NOT_KEPT} full", "behind", "slow", "differ"]


def test_what_comes_of_a_loss_is_told_with_it() -> None:
    """A worker was killed, and so its group has nobody: that is one matter, and what to do is the same."""
    lost = killed(MAIL.announcement)
    for findings in ([DESERTED], [lost, DESERTED], [DESERTED, lost]):
        assert told(*findings, state=ENDED_STATE) == [f"{lost.text} So {DESERTED.text}"]


def test_what_comes_of_a_listener_that_has_stopped() -> None:
    """Its worker says so: the group whose events wait for it is no other matter."""
    text = f"mail cccc: The listener greet {HAS_STOPPED} no"
    stopped = Finding(level=Level.ERROR, check="health", text=text, about=frozenset({MAIL.instance}))
    assert told(DESERTED, stopped) == [f"{text} So {DESERTED.text}"]


@pytest.mark.parametrize("group", ["shop-greet", "mailing-greet"])
def test_a_group_of_another_service_is_another_matter(group: str) -> None:
    """Also where its name begins alike; and one whose service was stopped on purpose stands for itself."""
    other = Finding(level=Level.WARNING, check="groups", text="it has nobody", group=group, is_deserted=True)
    assert told(other, state=ENDED_STATE) == [killed(MAIL.announcement).text, other.text]
    assert told(DESERTED) == [DESERTED.text]


def test_who_does_not_answer_is_told_of_once() -> None:
    """Not once more for each question that it was asked; of who answers some questions only it is."""
    about = frozenset({MAIL.instance})
    silent = Finding(level=Level.ERROR, check="peers", text="mail does not answer.", about=about)
    unanswered = Finding(level=Level.WARNING, check="answers", text="no answer to stats", about=about)
    assert told(silent, unanswered) == [silent.text]
    assert told(unanswered) == [unanswered.text]


def test_whose_a_group_is() -> None:
    """The longest name of a service that it begins with."""
    services = {"mail", "mail-eu", "shop"}
    assert [service_of(group, services) for group in ("mail-greet", "mail-eu-greet", "mailing")] == [
        "mail", "mail-eu", ""
    ]  # fmt: skip
