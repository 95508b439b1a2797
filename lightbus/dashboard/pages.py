"""The contents of each page, computed from the answers of the peers: values that become JSON. No I/O."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeAlias

from ..cli.checks.finding import Finding, Level
from ..cli.commands.peers import PeerReport
from ..cli.support.catalogue import served_apis
from ..cli.support.connection import SERVICE
from ..cli.support.group_pace import group_problems, silent_members, stopped_listeners
from ..engine.peer_api import NOT_KEPT
from ..wire.announcement import Announcement
from .problems import current_problems, service_of
from .round import Round, Series, edge_rates, rates

__all__ = ["PAGES", "View", "why_waiting"]

Fields: TypeAlias = dict[str, Any]


class View:
    """The data of a page: two rounds, the curves, the problems, and the item that is requested (`name`)."""

    def __init__(
        self, now: Round, before: Round | None, series: Series, findings: list[Finding], *, name: str = ""
    ) -> None:
        self.now, self.before = now, before
        self.series = series
        self.findings = current_problems(findings, now)
        self.name = name
        self.rates = rates(now, before)
        self._sums: defaultdict[tuple[str, str | None], float] = defaultdict(float)
        for (service, kind, _, _), rate in self.rates.items():
            self._sums[kind, service] += rate
            self._sums[kind, None] += rate

    def sum_of(self, kind: str, *, service: str | None = None) -> float:
        """Return the sum of a rate over all processes, or over those of one service."""
        return self._sums[kind, service]


def overview(view: View) -> Fields:
    """Return the state of the whole bus: totals, problems, services, and which service uses which."""
    groups_of = view.now.groups
    services = _services(view)
    return {
        "totals": {
            "services": len(services),
            "processes": len(view.now.live),
            "hosts": len({each.peer.announcement.host for each in view.now.live}),
            "calls": view.sum_of("calls"),
            "errors": view.sum_of("errors"),
            "events": view.sum_of("published"),
            "lag": sum(group["lag"] for group in groups_of),
            "dead": _dead(groups_of),
        },
        "curves": {name: view.series.of(name) for name in ("calls", "errors", "published", "lag")},
        "findings": [each.fields() for each in view.findings if each.level > Level.OK],
        "services": services,
        "edges": _edges(view),
        "clients": _clients(view),
    }


def service(view: View) -> Fields:
    """Return the processes, procedures, listeners, events and problems of one service."""
    members = [each for each in view.now.reports if each.peer.announcement.service == view.name]
    loads = view.now.loads(view.before)
    processes = [
        {**each.fields(), "load": load.fields() if (load := loads.get(each.peer.instance)) else None}
        for each in members
    ]
    return {
        "service": view.name,
        "processes": processes,
        "procedures": _procedures(view, members),
        "listeners": _listeners(view, members),
        "events": [each for each in _events(view) if each["service"] == view.name],
        "problems": [each.fields() for each in _of_service(view)[view.name]],
    }


def apis(view: View) -> Fields:
    """Return the APIs with the peers that serve them, and the rate of each procedure and event."""
    calls: defaultdict[str, float] = defaultdict(float)
    for (_, kind, api, name), rate in view.rates.items():
        if kind in ("calls", "published"):
            calls[f"{api}.{name}"] += rate
    served = served_apis(each.peer for each in view.now.reports if not each.has_ended)
    return {
        "apis": [
            {
                **each.fields(),
                "rates": {name: calls[f"{each.name}.{name}"] for name in [*each.procedures, *each.events]},
            }
            for each in served
            if not each.is_internal
        ]
    }


def events(view: View) -> Fields:
    """Return the count and the rate of each published event."""
    return {"events": _events(view), "curve": view.series.of("published")}


def groups(view: View) -> Fields:
    """Return each consumer group once, with the report of each publisher on it, and who does not answer."""
    found: defaultdict[tuple[str, str], list[Fields]] = defaultdict(list)
    for group in view.now.groups:
        found[group["api"], group["name"]].append(group)
    earlier = {_place(each): each for each in (view.before.groups if view.before else ())}
    names = {each.peer.instance: str(each.peer.announcement.process) for each in view.now.reports}
    stopped = stopped_listeners((each.peer.announcement, each.stats) for each in view.now.live)
    silent = [each.peer.announcement for each in view.now.reports if each.is_silent]
    return {
        "silent": [str(each) for each in silent],
        "groups": [
            _group(view, reports, names, _why(reports, earlier, stopped.get(of, ""), silent))
            for of, reports in sorted(found.items())
        ],
    }


def why_waiting(view: View, waiting: Collection[str]) -> dict[str, str]:
    """Return the first problem of each of these groups that makes no progress, by group."""
    wrong = [each for each in groups(view)["groups"] if each["name"] in waiting and each["why"]]
    return {each["name"]: each["why"][0]["text"] for each in wrong}


def peers(view: View) -> Fields:
    """Return every known peer with its state and the difference of its clock."""
    loads = view.now.loads(view.before)
    return {
        "peers": [
            {
                **each.fields(),
                "skew": view.now.skews.get(each.peer.instance),
                "features": each.info.get("features", []),
                "uptime": each.info.get("uptime"),
                "calls": load.calls if (load := loads.get(each.peer.instance)) else None,
                "why": [finding.fields() for finding in _about(view.findings, each)],
            }
            for each in view.now.reports
        ]
    }


def journals(view: View) -> Fields:
    """Return the journals with their sizes, the findings about them, and who does not answer."""
    found = [each.fields() for each in view.findings if _is_about_journals(each)]
    silent = [str(each.peer.announcement) for each in view.now.reports if each.is_silent]
    return {"journals": view.now.journals, "findings": found, "silent": silent}


PAGES: dict[str, Callable[[View], Fields]] = {
    "overview": overview,
    "service": service,
    "apis": apis,
    "events": events,
    "groups": groups,
    "peers": peers,
    "journals": journals,
}
"""The function that returns the contents of each page."""


def _services(view: View) -> list[Fields]:
    members: defaultdict[str, list[PeerReport]] = defaultdict(list)
    for each in view.now.reports:
        members[each.peer.announcement.service].append(each)
    problems = _problems(view)
    return [_service(view, name, found, sorted(problems[name])) for name, found in sorted(members.items())]


def _of_service(view: View) -> dict[str, list[Finding]]:
    """Return the problems of each service: its own, and those of its processes and of its groups."""
    found: defaultdict[str, list[Finding]] = defaultdict(list)
    services = {each.peer.instance: each.peer.announcement.service for each in view.now.reports}
    for finding in view.findings:
        if finding.level > Level.OK:
            affected = finding.services | {services[each] for each in finding.about if each in services}
            for service in affected | {service_of(finding.group, {*services.values()})}:
                found[service].append(finding)
    return found


def _problems(view: View) -> dict[str, set[str]]:
    """Return the texts of the problems of each service, including the present ones of its groups."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for service, findings in _of_service(view).items():
        found[service] = {each.text for each in findings}
    services = {each.peer.announcement.service for each in view.now.reports}
    for group in groups(view)["groups"]:
        found[service_of(group["name"], services)].update(each["text"] for each in group["why"])
    return found


def _service(view: View, name: str, members: list[PeerReport], problems: list[str]) -> Fields:
    states = {each.state for each in members}
    slowest = [each["p99"] for member in members for each in member.stats.get("procedures", ()) if each["p99"]]
    return {
        "name": name,
        "processes": len(members),
        "up": sum(each.rtt is not None for each in members),
        "hosts": sorted({each.peer.announcement.host for each in members}),
        "calls": view.sum_of("calls", service=name),
        "errors": view.sum_of("errors", service=name),
        "published": view.sum_of("published", service=name),
        "handled": view.sum_of("handled", service=name),
        "failed": view.sum_of("failed", service=name),
        "p99": max(slowest, default=None),
        "queued": sum(each.stats.get("queued", 0) for each in members),
        "lag": sum(listener["waiting"] for each in members for listener in each.stats.get("listeners", ())),
        "states": sorted(states),
        "stopped": sorted({listener for each in members for listener in each.stopped}),
        "problems": problems,
    }


def _clients(view: View) -> Fields:
    """
    Return how many processes that are not workers are connected, by service; this dashboard is not counted.

    A client is connected to one worker or to many: a service has at least as many as the worker with the most reports.
    """
    found: Fields = {}
    for each in view.now.live:
        for service, count in each.stats.get("clients", {}).items():
            found[service] = max(count - (service == SERVICE), found.get(service, 0))
    return {service: count for service, count in sorted(found.items()) if count > 0}


def _edges(view: View) -> list[Fields]:
    """Return one edge for each pair of services and kind, with its rates and names."""
    per_second = edge_rates(view.now, view.before)
    slowest = {"calls": _slowest(view), "listens": _delays(view)}
    lags = _lags(view)
    found: dict[tuple[str, str, str], Fields] = {}
    for edge in view.now.edges:
        # A listener's edge is reported from the listener to the publisher; events flow in the other direction.
        ends = (edge.source, edge.target) if edge.kind == "calls" else (edge.target, edge.source)
        made = found.setdefault(
            (*ends, edge.kind),
            {"from": ends[0], "to": ends[1], "kind": edge.kind, "rate": 0.0, "errors": 0.0, "lag": None, "names": []},
        )
        rate, errors = per_second.get((edge.source, edge.target, edge.kind, edge.name), (0.0, 0.0))
        p99 = slowest[edge.kind].get((*ends, edge.name))
        if edge.kind == "listens":
            made["lag"] = lags.get(ends)
        made["rate"] += rate
        made["errors"] += errors
        made["names"].append({"name": edge.name, "rate": rate, "count": edge.count, "p99": p99, "errors": errors})
    return [*found.values()]


def _slowest(view: View) -> dict[tuple[str, str, str], float]:
    """Return the p99 of calls by calling service, called service and procedure, each of the slowest process."""
    found: defaultdict[tuple[str, str, str], float] = defaultdict(float)
    for each in view.now.live:
        for stats in each.stats.get("procedures", ()):
            for caller, seconds in stats.get("caller_p99", {}).items():
                key = caller, each.peer.announcement.service, f"{stats['api']}.{stats['procedure']}"
                found[key] = max(found[key], seconds)
    return found


def _delays(view: View) -> dict[tuple[str, str, str], float]:
    """
    Return the p99 of the time from firing an event until it was handled, by publisher, service and name.

    It is that of the slowest process. The difference of the clocks of two hosts is subtracted, if it is known. Where a
    server keeps the events, listeners do not know their publisher: it is the service that publishes them, if only one
    does.
    """
    known = {each.peer.instance: each.peer.announcement for each in view.now.reports}
    only = _only_publishers(view)
    found: defaultdict[tuple[str, str, str], float] = defaultdict(float)
    for each in view.now.live:
        listener = each.peer.announcement
        for stats in each.stats.get("listeners", ()):
            for event, delays in stats.get("delay_p99", {}).items():
                name = f"{stats['api']}.{event}"
                for instance, seconds in delays.items():
                    publisher = known.get(instance)
                    skew = 0.0 if publisher is None else _skew(view.now.skews, listener, publisher)
                    service = publisher.service if publisher else "" if instance else only.get(name, "")
                    key = service, listener.service, name
                    found[key] = max(found[key], seconds - skew)
    return found


def _only_publishers(view: View) -> dict[str, str]:
    """Return the service that publishes an event, by name, for events that only one service publishes."""
    services: defaultdict[str, set[str]] = defaultdict(set)
    for edge in view.now.edges:
        if edge.kind == "listens":
            services[edge.name].add(edge.target)
    return {name: min(them) for name, them in services.items() if len(them) == 1}


def _skew(skews: Mapping[str, float], one: Announcement, other: Announcement) -> float:
    """Return by how many seconds one process's clock is ahead of another's: 0 on one host, or if it is unknown."""
    if one.host == other.host or not {one.instance, other.instance} <= skews.keys():
        return 0.0
    return skews[one.instance] - skews[other.instance]


def _lags(view: View) -> dict[tuple[str, str], int]:
    """Return how many events wait for the groups of a service, by publishing and receiving service."""
    services = {each.peer.announcement.service for each in view.now.reports}
    found: defaultdict[tuple[str, str], int] = defaultdict(int)
    for group in view.now.groups:
        if service := service_of(group["name"], services):
            found[group["publisher"], service] += group["lag"]
    return found


def _procedures(view: View, members: list[PeerReport]) -> list[Fields]:
    found: dict[tuple[str, str], Fields] = {}
    for member in members:
        for each in member.stats.get("procedures", ()):
            key = each["api"], each["procedure"]
            name = f"{key[0]}.{key[1]}"
            made = found.setdefault(
                key, {"name": name, "calls": 0, "errors": 0, "p50": None, "p99": None, "callers": defaultdict(int)}
            )
            made["calls"] += each["calls"]
            made["errors"] += each["errors"]
            for share in ("p50", "p99"):
                made[share] = max(made[share] or 0.0, each[share] or 0.0) or None
            for caller, count in each["callers"].items():
                made["callers"][caller] += count
            made["rate"] = view.rates.get((view.name, "calls", *key), 0.0)
            made["curve"] = view.series.of(f"{view.name}/calls/{name}")[-60:]
    return sorted(found.values(), key=lambda each: (-each["rate"], each["name"]))


def _listeners(view: View, members: list[PeerReport]) -> list[Fields]:
    lags: defaultdict[tuple[str, str], int] = defaultdict(int)
    for report in view.now.groups:
        lags[report["api"], report["name"]] += report["lag"]
    found: dict[tuple[str, str], Fields] = {}
    for member in members:
        names = {(each["api"], each["name"]): each.get("group") for each in member.info.get("listeners", ())}
        for each in member.stats.get("listeners", ()):
            key = each["api"], each["name"]
            group = names.get(key)
            made = found.setdefault(key, {**each, "handled": 0, "waiting": 0, "failed": 0, "dropped": 0})
            for count in ("waiting", "failed", "dropped"):
                made[count] += each[count]
            made["handled"] += sum(each["handled"].values())
            made["stopped"] = made.get("stopped") or each.get("stopped")
            made["group"], made["lag"] = group, lags[key[0], group] if group else None
            made["rate"] = view.rates.get((view.name, "handled", *key), 0.0)
            made["curve"] = view.series.of(f"{view.name}/handled/{key[0]}.{key[1]}")[-60:]
    return sorted(found.values(), key=lambda each: (each["api"], each["name"]))


def _events(view: View) -> list[Fields]:
    found: dict[tuple[str, str], Fields] = {}
    for each in view.now.live:
        of = each.peer.announcement.service
        for stats in each.stats.get("events", ()):
            name = f"{stats['api']}.{stats['event']}"
            made = found.setdefault((of, name), {"service": of, "name": name, "count": 0, "bytes": 0})
            made["count"] += stats["published"]
            made["bytes"] += stats.get("bytes", 0)
            made["rate"] = view.rates.get((of, "published", stats["api"], stats["event"]), 0.0)
            made["curve"] = view.series.of(f"{of}/published/{name}")[-60:]
    return sorted(found.values(), key=lambda each: (-each["rate"], each["name"]))


def _group(view: View, reports: list[Fields], names: dict[str, str], why: list[Fields]) -> Fields:
    first = reports[0]
    members: defaultdict[str, set[int]] = defaultdict(set)
    for each in reports:
        for member, partitions in each["members"].items():
            members[member].update(partitions)
    lag = sum(each["lag"] for each in reports)
    return {
        "api": first["api"],
        "name": first["name"],
        "events": sorted({event for each in reports for event in each["events"]}),
        "members": [
            {"instance": member, "process": names.get(member, ""), "partitions": sorted(partitions)}
            for member, partitions in sorted(members.items())
        ],
        "lag": lag,
        "dead": _dead(reports),
        "lost": sum(each["lost"] for each in reports),
        "mixed": any(each["mixed"] for each in reports),
        "last_seen": max(each["last_seen"] - each["clock"] for each in reports),
        "state": _state(lag, why, has_members=bool(members)),
        "why": why,
        "curve": view.series.of(f"lag/{first['api']}/{first['name']}"),
        "publishers": [
            {key: each.get(key) for key in ("publisher", "instance", "lag", "acks", "dead", "lost")} for each in reports
        ],
    }


def _state(lag: int, why: list[Fields], *, has_members: bool) -> str:
    """Return `stuck` if no waiting event is handled, or the group has no members; `warning` for other problems."""
    if (lag and not has_members) or any("handled none" in each["text"] for each in why):
        return "stuck"
    return "warning" if why else "ok"


def _why(
    reports: list[Fields], earlier: dict[tuple[str, ...], Fields], stopped: str, silent: list[Announcement]
) -> list[Fields]:
    """Return the problems of a group, in the words of `lightbus doctor`."""
    pairs = [(known, each) for each in reports if each["members"] and (known := earlier.get(_place(each)))]
    found = group_problems(reports, pairs, stopped, silent=silent_members(reports[0]["name"], silent))
    return [{"text": each.text, "remedy": each.remedy} for each in found]


def _place(group: Fields) -> tuple[str, ...]:
    return group["api"], group["name"], group["instance"]


def _dead(groups_of: list[Fields]) -> int:
    """Return the number of dead letters, each once: publishers report those of a group under each of its APIs."""
    counted = {(each["instance"], each["name"]): each["dead"] for each in groups_of}
    return sum(counted.values())


def _is_about_journals(finding: Finding) -> bool:
    # That a journal accepts no more events is reported by its worker, as a finding on its health.
    return finding.level > Level.OK and (finding.check in ("journals", "outbox", "losses") or NOT_KEPT in finding.text)


def _about(findings: list[Finding], report: PeerReport) -> list[Finding]:
    """Return the problems of a peer."""
    return [each for each in findings if each.level > Level.OK and report.peer.instance in each.about]
