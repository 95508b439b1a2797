"""`lightbus doctor`: checks the bus and this host for problems, and suggests remedies."""

from __future__ import annotations

import click

from ...deadline import Deadline
from ...exceptions import LightbusException
from ..checks.finding import Check, CheckContext, Finding, Level
from ..checks.kept_events import check_groups, check_health, check_journals
from ..checks.processes import check_answers, check_clocks, check_names, check_peers, check_seeds, check_versions
from ..checks.this_host import (
    check_bus,
    check_directories,
    check_discovery,
    check_interfaces,
    check_multicast,
    check_open_files,
    check_port,
    check_sockets,
)
from ..support.connection import Connection, on_bus
from ..support.options import ClientOptions, client_options
from ..support.output import Output
from .peers import query_peers

__all__ = ["CHECKS", "doctor"]

CHECKS: dict[str, Check] = {
    "the bus": check_bus,
    "interfaces": check_interfaces,
    "port 5353": check_port,
    "multicast": check_multicast,
    "discovery": check_discovery,
    "the sockets": check_sockets,
    "the data directory": check_directories,
    "open files": check_open_files,
    "fixed peers": check_seeds,
    "peers": check_peers,
    "names": check_names,
    "clocks": check_clocks,
    "versions": check_versions,
    "health": check_health,
    "groups": check_groups,
    "journals": check_journals,
    "answers": check_answers,
}
"""Text of the progress bar -> the check."""

STYLES = {Level.OK: "green", Level.WARNING: "yellow", Level.ERROR: "red"}


@click.command()
@client_options
def doctor(options: ClientOptions) -> None:
    """Check the bus and this host: one line for each finding, with what to do.

    Exit code 0: nothing is wrong. 1: there are warnings. 2: there are errors.
    """
    on_bus(options, _run_checks)


async def _run_checks(bus: Connection) -> int:
    worst = Level.OK
    with bus.output.progress("Looking for peers", len(CHECKS) + 1) as advance:
        await bus.client.engine.questions.discover_all(Deadline.after(bus.options.wait))
        context = CheckContext(bus=bus, reports=await query_peers(bus, bus.known()))
        bus.silent.update(each.peer.instance for each in context.reports if each.rtt is None)  # reported by a check
        findings = []
        for done, (name, check) in enumerate(CHECKS.items(), 1):
            advance(done, f"Checking {name}")
            findings += await _findings_of(name, check, context)
    for finding in findings:
        worst = max(worst, finding.level)
        _show(bus.output, finding)
    return worst


async def _findings_of(name: str, check: Check, context: CheckContext) -> list[Finding]:
    """Return what a check found. If it could not be made, as when all peers have just ended, that is a finding, too."""
    found: list[Finding] = []
    try:
        async for finding in check(context):
            found.append(finding)  # one by one: those before an error are kept
    except LightbusException as error:
        found.append(Finding(level=Level.WARNING, check=name, text=f"could not be checked: {error}"))
    return found


def _show(output: Output, finding: Finding) -> None:
    if output.as_json:
        output.record(finding.fields())
        return
    style = STYLES[finding.level]
    remedy = f" {finding.remedy}" if finding.remedy else ""
    output.paragraph((f"{finding.level.name.lower():<7}", style), (f"{finding.check}: ", "bold"), finding.text, remedy)
