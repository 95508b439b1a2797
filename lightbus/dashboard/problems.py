"""What is wrong, as pages tell it: the worst first, and each matter once, with what comes of it. No I/O."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from ..cli.checks.finding import Finding, Level
from ..cli.checks.processes import killed
from ..engine.peer_api import HAS_STOPPED, NOT_KEPT
from .round import Round

__all__ = ["current_problems", "service_of"]

GRAVITY = ("data directory", "kept", "journals", "losses", "outbox", "peers", "groups", "health")
"""Checks whose findings come first among those of a level: what loses events, then who is not there."""


def current_problems(findings: list[Finding], now: Round) -> list[Finding]:
    """Return what doctor found, and who was lost since."""
    killed_now = [killed(each.peer.announcement) for each in now.reports if each.has_ended]
    found = [*findings, *(each for each in killed_now if each not in findings)]
    services = {each.peer.instance: each.peer.announcement.service for each in now.reports}
    return sorted(_without_consequences(found, services), key=_severity)


def service_of(group: str, services: Collection[str]) -> str:
    """Return whose a group is: its name is that of the service and of the listener. No text where it is nobody's."""
    return max((name for name in services if group.startswith(f"{name}-")), key=len, default="")


def _without_consequences(findings: list[Finding], services: Mapping[str, str]) -> list[Finding]:
    """
    Return what is wrong, each with what comes of it.

    Where the process of a group is lost, or its listener has stopped, nobody handles its events; and who is known not
    to answer is not told of again for each question.
    """
    causes: dict[str, int] = {}
    for number, each in enumerate(findings):
        if each.level > Level.OK and (each.check == "peers" or HAS_STOPPED in each.text):
            for instance in each.about & services.keys():
                causes.setdefault(services[instance], number)
    silent = {instance for each in findings if each.check == "peers" for instance in each.about}
    told, left = [*findings], []
    for number, each in enumerate(findings):
        cause = causes.get(service_of(each.group, set(services.values()))) if each.is_deserted else None
        if cause is not None:
            told[cause] = replace(told[cause], text=f"{told[cause].text} So {each.text}")
        elif each.check != "answers" or not each.about <= silent:
            left.append(number)
    return [told[number] for number in left]


def _severity(finding: Finding) -> tuple[int, int]:
    check = "kept" if NOT_KEPT in finding.text else finding.check
    return -finding.level, GRAVITY.index(check) if check in GRAVITY else len(GRAVITY)
