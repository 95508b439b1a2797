"""The problems that pages show: the worst first, each cause once, together with its consequences. No I/O."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from ..cli.checks.finding import Finding, Level
from ..cli.checks.processes import killed
from ..engine.peer_api import HAS_STOPPED, NOT_KEPT
from .round import Round

__all__ = ["current_problems", "service_of"]

CHECKS_BY_SEVERITY = ("data directory", "kept", "journals", "losses", "outbox", "peers", "groups", "health")
"""Checks whose findings come first among those of a level: lost events first, then missing processes."""


def current_problems(findings: list[Finding], now: Round) -> list[Finding]:
    """Return the findings of `lightbus doctor`, without peers that answer again, and the processes that were lost."""
    answering = {each.peer.instance for each in now.live}
    findings = [each for each in findings if each.check != "peers" or not each.about or not each.about <= answering]
    killed_now = [killed(each.peer.announcement) for each in now.reports if each.has_ended]
    found = [*findings, *(each for each in killed_now if each not in findings)]
    services = {each.peer.instance: each.peer.announcement.service for each in now.reports}
    return sorted(_without_consequences(found, services), key=_severity)


def service_of(group: str, services: Collection[str]) -> str:
    """Return the service of a group, whose name begins with it (`service-listener`); empty if there is none."""
    return max((name for name in services if group.startswith(f"{name}-")), key=len, default="")


def _without_consequences(findings: list[Finding], services: Mapping[str, str]) -> list[Finding]:
    """
    Return the findings, with the text of each consequence appended to its cause.

    If the process of a group is lost, or its listener has stopped, no one handles its events. Failed answers of a peer
    that is reported as silent are left out.
    """
    causes: dict[str, int] = {}
    for number, each in enumerate(findings):
        if each.level > Level.OK and (each.check == "peers" or HAS_STOPPED in each.text):
            for instance in each.about & services.keys():
                causes.setdefault(services[instance], number)
    silent = {instance for each in findings if each.check == "peers" for instance in each.about}
    kept, left = [*findings], []
    for number, each in enumerate(findings):
        cause = causes.get(service_of(each.group, set(services.values()))) if each.is_deserted else None
        if cause is not None:
            kept[cause] = replace(kept[cause], text=f"{kept[cause].text} So {each.text}")
        elif each.check != "answers" or not each.about <= silent:
            left.append(number)
    return [kept[number] for number in left]


def _severity(finding: Finding) -> tuple[int, int]:
    check = "kept" if NOT_KEPT in finding.text else finding.check
    rank = CHECKS_BY_SEVERITY.index(check) if check in CHECKS_BY_SEVERITY else len(CHECKS_BY_SEVERITY)
    return -finding.level, rank
