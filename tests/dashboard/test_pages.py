"""The contents of each page, from the reports of workers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from helpers.scripted_bus import peer
from lightbus.cli.checks.finding import Finding, Level
from lightbus.cli.checks.processes import killed
from lightbus.cli.commands.graph import Edge
from lightbus.cli.commands.peers import ENDED_STATE, PeerReport
from lightbus.dashboard.answers import encoded
from lightbus.dashboard.pages import PAGES, View, why_waiting
from lightbus.dashboard.round import Round, Series
from lightbus.engine.peer_api import NOT_KEPT
from lightbus.wire.answers import ANSWERS

A, B = "a" * 16, "b" * 16


def procedure(name: str, calls: int, *, p99: float | None = 0.2, **callers: int) -> dict[str, Any]:
    told = {"api": "auth", "procedure": name, "calls": calls, "errors": 0, "p50": 0.1, "p99": p99, "callers": callers}
    return {**told, "caller_p99": {caller: p99 / (2 + place) for place, caller in enumerate(callers)} if p99 else {}}


def report(instance: str, calls: int, *, waiting: int = 0, stopped: str | None = None) -> PeerReport:
    listener = {"api": "auth", "name": "greet", "handled": {"left": calls}, "waiting": waiting, "failed": 0}
    stats = {
        "queued": 1,
        "procedures": [procedure("check", calls, web=calls)],
        "events": [{"api": "auth", "event": "left", "published": calls, "bytes": 10 * calls}],
        "listeners": [{**listener, "dropped": 0, "stopped": stopped}],
    }
    info = {"listeners": [{"api": "auth", "events": ["left"], "name": "greet", "group": "auth-greet"}]}
    return PeerReport(peer=peer(instance=instance), state="up", rtt=0.001, info=info, stats=stats)


def group(instance: str = A, **given: Any) -> dict[str, Any]:
    told = {
        "api": "auth", "name": "auth-greet", "publisher": "auth", "instance": instance, "events": ["left"], "lag": 0,
        "dead": 0, "lost": 0, "mixed": False, "members": {}, "acks": 0, "last_seen": 100.0, "clock": 103.0,
    }  # fmt: skip
    return {**told, **given}


def view(now: dict[str, Any], before: dict[str, Any] | None = None, *, name: str = "", **given: Any) -> View:
    first = None if before is None else Round(number=1, at=1.0, clock=0.0, **before)
    return View(Round(number=2, at=3.0, clock=2.0, **now), first, Series(), given.get("findings", []), name=name)


BAD = Finding(level=Level.WARNING, check="health", text="one is slow.", remedy="Wait.", about=frozenset({A}))
FINE = replace(BAD, level=Level.OK, text="one is well.")


@pytest.mark.parametrize("page", PAGES)
def test_an_empty_bus_has_every_page(page: str) -> None:
    """Without peers, and without an earlier round; the contents can be encoded."""
    json.dumps(PAGES[page](view({})), allow_nan=False)


@pytest.mark.parametrize("page", PAGES)
def test_a_busy_bus_has_every_page(page: str) -> None:
    """With two workers of a service, one that does not answer, and groups."""
    silent = PeerReport(peer=peer("mail", instance="c" * 16), state="suspect")
    seen: dict[str, Any] = {"reports": [report(A, 4), report(B, 2), silent], "groups": [group(), group(B)]}
    json.dumps(PAGES[page](view(seen, seen, name="auth", findings=[BAD])), allow_nan=False)


def least(form: Any, value: Any) -> Any:
    """Return a value without the parts that its form does not require."""
    if isinstance(form, list):
        return [least(form[0], each) for each in value]
    if isinstance(form, Mapping) and ... not in form:
        parts = {name.removesuffix("?"): part for name, part in form.items() if isinstance(name, str)}
        left = {name: each for name, each in value.items() if f"{name}?" not in form}
        return {name: least(parts[name], each) if name in parts else each for name, each in left.items()}
    return value


@pytest.mark.parametrize("page", PAGES)
def test_a_worker_of_an_earlier_version_has_every_page(page: str) -> None:
    """Its answers lack what the form of answers does not require."""
    told = replace(
        report(A, 4),
        stats=least(ANSWERS["internal.peer"]["stats"], report(A, 4).stats),
        info=least(ANSWERS["internal.peer"]["info"], report(A, 4).info),
    )
    [short] = least(ANSWERS["internal.events"]["groups"], [group(lag=2, members={A: [0]})])
    assert "acks" not in short
    assert "stopped" not in told.stats["listeners"][0]
    seen: dict[str, Any] = {"reports": [told, report(B, 2)], "groups": [short, group(B)]}
    json.dumps(PAGES[page](view(seen, seen, name="auth", findings=[BAD])), allow_nan=False)


def test_overview_sums_services_and_problems() -> None:
    """Totals, services, and problems; a dead letter reported under two APIs counts once."""
    groups = [group(dead=2, lag=3), group(dead=2, api="shop"), group(B, dead=1, lag=4)]
    now = {"reports": [report(A, 10), report(B, 6, waiting=5, stopped="ValueError")], "groups": groups}
    shown = PAGES["overview"](view(now, {"reports": [report(A, 0), report(B, 0)]}, findings=[BAD, FINE]))
    totals = shown["totals"]
    assert (totals["services"], totals["processes"], totals["hosts"]) == (1, 2, 1)
    assert (totals["calls"], totals["events"], totals["lag"], totals["dead"]) == (8.0, 8.0, 7, 3)
    assert [each["text"] for each in shown["findings"]] == [BAD.text]
    [auth] = shown["services"]
    assert (auth["processes"], auth["up"], auth["queued"], auth["lag"], auth["p99"]) == (2, 2, 2, 5, 0.2)


def test_problems_of_a_service() -> None:
    """The findings about its processes, named in the text or not, and about their groups."""
    unnamed = Finding(level=Level.ERROR, check="peers", text="12 peers do not answer.", about=frozenset({B}))
    stuck = {"name": "mail-greet", "acks": 5, "lag": 9, "members": {"c" * 16: [1]}}
    mail = PeerReport(peer=peer("mail", instance="c" * 16), state="up", rtt=0.001)
    now = {
        "reports": [report(A, 1), replace(report(B, 1), rtt=None, state="suspect"), mail],
        "groups": [group(**stuck)],
    }
    shown = PAGES["overview"](view(now, {"groups": [group(**stuck)]}, findings=[BAD, FINE, unnamed]))
    auth, mail_shown = shown["services"]
    assert auth["problems"] == sorted([BAD.text, unnamed.text])
    [problem] = mail_shown["problems"]
    assert "handled none" in problem
    peers = {each["instance"]: each["why"] for each in PAGES["peers"](view(now, findings=[unnamed]))["peers"]}
    assert [len(peers[instance]) for instance in (A, B)] == [0, 1]


def test_a_finding_is_shown_on_the_pages_it_is_about() -> None:
    """Not where only a publisher's name is in the text, nor at a service with a similar name."""

    def finding(text: str, **given: Any) -> Finding:
        return Finding(level=Level.WARNING, check="groups", text=text, **given)

    others = [peer("mail", instance="c" * 16), peer("hung", instance="d" * 16)]
    seen = [report(A, 1), *(PeerReport(peer=each, state="up") for each in others)]
    gone = PeerReport(peer=peer("mail-eu", instance="e" * 16), state=ENDED_STATE)
    findings = [
        finding("Dead letters of the group mail-greet of auth at auth aaaa: 3.", group="mail-greet"),
        finding("the group hung-watch of auth at auth aaaa has 5 events to handle", group="hung-watch"),
        finding("the group mail-eu-greet of auth at auth aaaa has 5 events to handle", group="mail-eu-greet"),
        finding("email and auth do not serve the same", services=frozenset({"email", "auth"})),
        finding("mail is slow, says hung.", about=frozenset({A})),
    ]

    def told(name: str) -> list[str]:
        shown = PAGES["service"](view({"reports": [*seen, gone]}, name=name, findings=findings))
        return [each["text"].split()[0] for each in shown["problems"]]

    assert {name: told(name) for name in ("auth", "mail", "hung", "email", "mail-eu")} == {
        "auth": ["email", "mail"], "mail": ["Dead"], "hung": ["the"], "email": ["email"], "mail-eu": ["mail-eu", "the"],
    }  # fmt: skip


def test_a_killed_worker() -> None:
    """It is named on each page that showed it, once, serves nothing, and is not waited for."""
    gone = PeerReport(peer=peer(instance=B), state=ENDED_STATE)
    now = {"reports": [report(A, 1), gone], "groups": [group(lag=5)]}
    for findings in ([], [killed(gone.peer.announcement)]):
        for page, place in (("overview", "findings"), ("service", "problems")):
            [told] = PAGES[page](view(now, findings=findings, name="auth"))[place]
            assert told["text"] == f"{gone.peer.announcement} has ended without a goodbye (was it killed?)."
    [auth] = PAGES["overview"](view(now))["services"]
    assert (auth["processes"], auth["up"], auth["states"]) == (2, 1, ["gone", "up"])
    assert [len(each["why"]) for each in PAGES["peers"](view(now))["peers"]] == [0, 1]
    [told] = PAGES["groups"](view(now))["groups"]
    assert told["why"][0]["text"].endswith("and no process.")


def test_edges_combine_two_services() -> None:
    """One for each pair and kind; events flow from publisher to listener."""
    edges = [
        Edge(source="web", target="auth", kind="calls", name="auth.check", count=10),
        Edge(source="web", target="auth", kind="calls", name="auth.reset", count=4),
        Edge(source="mail", target="auth", kind="listens", name="auth.left", count=2),
    ]
    now = {"edges": edges, "reports": [report(A, 0)]}
    before = {"edges": [Edge(source="web", target="auth", kind="calls", name="auth.check", count=2)]}
    called, told = PAGES["overview"](view(now, before))["edges"]
    assert (called["from"], called["to"], called["rate"]) == ("web", "auth", 4.0)
    assert [each["name"] for each in called["names"]] == ["auth.check", "auth.reset"]
    assert [each["p99"] for each in called["names"]] == [0.1, None]
    assert (told["from"], told["to"], told["kind"]) == ("auth", "mail", "listens")


def test_clients_are_processes_that_are_not_workers() -> None:
    """As many as the worker with the most reports, without this dashboard."""
    seen = [report(A, 1), report(B, 1), report("c" * 16, 1)]
    for each, clients in zip(seen, ({"web": 2, "lightbus-cli": 1}, {"web": 3, "lightbus-gateway": 1}, {}), strict=True):
        each.stats["clients"] = clients
    told = PAGES["overview"](view({"reports": seen}))["clients"]
    assert told == {"lightbus-gateway": 1, "web": 3}
    seen[0].stats["clients"]["lightbus-cli"] = 2
    assert PAGES["overview"](view({"reports": seen}))["clients"]["lightbus-cli"] == 1


def test_errors_are_on_their_edge() -> None:
    """Not on that of another caller of the same procedure; those of a listener on the edge of its event."""

    def edges(times: int) -> list[Edge]:
        made = [
            ("web", "calls", "auth.check", 0),
            ("shop", "calls", "auth.check", 4),
            ("mail", "listens", "auth.left", 2),
        ]
        return [
            Edge(source=source, target="auth", kind=kind, name=name, count=10 * times, errors=errors * times)
            for source, kind, name, errors in made
        ]

    shown = PAGES["overview"](view({"edges": edges(2)}, {"edges": edges(1)}))["edges"]
    assert {(each["from"], each["to"]): each["errors"] for each in shown} == {
        ("web", "auth"): 0.0, ("shop", "auth"): 2.0, ("auth", "mail"): 1.0,
    }  # fmt: skip
    assert [[name["errors"] for name in each["names"]] for each in shown] == [[0.0], [2.0], [1.0]]


def test_latency_belongs_to_an_edge() -> None:
    """Not that of another caller; for events the number that waits for the listener, or was lost."""
    seen = [report(A, 0), PeerReport(peer=peer("stock", instance=B), state=ENDED_STATE)]
    seen[0].stats["procedures"] = [procedure("check", 2, web=1, shop=1)]
    edges = [
        Edge(source=source, target="auth", kind=kind, name=name, count=1)
        for source, kind, name in (
            ("web", "calls", "auth.check"), ("shop", "calls", "auth.check"), ("old", "calls", "auth.check"),
            ("stock", "listens", "auth.left"), ("auth", "listens", "auth.left"), ("mail", "listens", "auth.left"),
        )
    ]  # fmt: skip
    groups = [
        group(publisher="auth", name="stock-count", lag=3), group(B, publisher="auth", name="stock-count", lag=4),
        group(publisher="other", name="stock-count", lag=9), group(publisher="auth", lag=0),
    ]  # fmt: skip
    shown = PAGES["overview"](view({"edges": edges, "reports": seen, "groups": groups}))["edges"]
    assert [(each["from"], each["to"], each["names"][0]["p99"], each["lag"]) for each in shown] == [
        ("web", "auth", 0.1, None), ("shop", "auth", 0.2 / 3, None), ("old", "auth", None, None),
        ("auth", "stock", None, 7), ("auth", "auth", None, 0), ("auth", "mail", None, None),
    ]  # fmt: skip


def on_host(report: PeerReport, host: str) -> PeerReport:
    """Return the reports as of another host."""
    announcement = replace(report.peer.announcement, host=host)
    return replace(report, peer=replace(report.peer, announcement=announcement))


def test_delay_of_events_belongs_to_their_edge() -> None:
    """By publisher and listener, of the slowest process, corrected by the difference of the clocks, if known."""
    c, d = "c" * 16, "d" * 16
    web = [PeerReport(peer=peer("web", instance=each), state="up", rtt=0.001) for each in (B, d)]
    seen = [report(A, 1), *(on_host(each, f"h{number}") for number, each in enumerate((*web, report(c, 1))))]
    for each, delays in zip(seen, ({A: 0.25, B: 9.5, "e" * 16: 100.0}, {}, {}, {A: 0.5, B: -0.4, d: 0.3}), strict=True):
        for listener in each.stats.get("listeners", ()):
            listener["delay_p99"] = {"left": delays}
    edges = [Edge(source="auth", target=name, kind="listens", name="auth.left", count=1) for name in ("auth", "web")]
    skews = {A: 10.0, B: 1.0, c: 0.0}
    shown = PAGES["overview"](view({"edges": edges, "reports": seen, "skews": skews}))["edges"]
    assert [(each["from"], each["to"], each["names"][0]["p99"]) for each in shown] == [
        ("auth", "auth", 10.5), ("web", "auth", 0.6),
    ]  # fmt: skip
    del seen[3], skews[B]
    shown = PAGES["overview"](view({"edges": edges, "reports": seen, "skews": skews}))["edges"]
    assert [each["names"][0]["p99"] for each in shown] == [0.25, 9.5]


@pytest.mark.parametrize(("services", "found"), [(("auth",), [0.25]), (("auth", "web"), [None, None])])
def test_delay_of_events_that_a_server_keeps(services: tuple[str, ...], found: list[float | None]) -> None:
    """It is on the edge of the only service that publishes them: of several, their listeners do not know which."""
    seen = [report(A, 1), PeerReport(peer=peer("web", instance=B), state="up", rtt=0.001)]
    seen[0].stats["listeners"][0]["delay_p99"] = {"left": {"": 0.25}}
    edges = [Edge(source="auth", target=name, kind="listens", name="auth.left", count=1) for name in services]
    edges.append(Edge(source="auth", target="web", kind="listens", name="auth.other", count=1))
    shown = PAGES["overview"](view({"edges": edges, "reports": seen}))["edges"]
    assert [name["p99"] for each in shown for name in each["names"] if name["name"] == "auth.left"] == found


def test_service_page_merges_its_processes() -> None:
    """Calls, callers and the slowest times of all; its listeners with the lag of their group."""
    now = {
        "reports": [report(A, 10, waiting=1), report(B, 6, waiting=2)],
        "groups": [group(lag=3), group(B, lag=4)],
    }
    shown = PAGES["service"](view(now, {"reports": [report(A, 0)]}, name="auth", findings=[BAD, FINE]))
    [check] = shown["procedures"]
    assert (check["calls"], check["rate"], check["p99"], check["callers"]) == (16, 5.0, 0.2, {"web": 16})
    [greet] = shown["listeners"]
    assert (greet["handled"], greet["waiting"], greet["group"], greet["lag"]) == (16, 3, "auth-greet", 7)
    [left] = shown["events"]
    assert (left["count"], left["bytes"]) == (16, 160)
    assert [each["text"] for each in shown["problems"]] == [BAD.text]
    assert PAGES["service"](view(now, name="unknown"))["processes"] == []


@pytest.mark.parametrize("page", ["groups", "journals"])
def test_who_does_not_answer_is_named(page: str) -> None:
    """What it keeps is missing on the page: it must not look as if there were nothing."""
    silent = PeerReport(peer=peer("mail", instance="c" * 16), state="suspect")
    assert PAGES[page](view({"reports": [report(A, 1), silent]}))["silent"] == ["mail cccc… on host h"]
    assert PAGES[page](view({"reports": [report(A, 1)]}))["silent"] == []


def test_group_is_shown_once() -> None:
    """With the report of each publisher, and its members with all their partitions."""
    told = [
        group(lag=3, members={A: [0, 1]}, acks=4),
        group(B, lag=4, members={A: [2], B: [3]}, acks=5, last_seen=102.0),
    ]
    [shown] = PAGES["groups"](view({"reports": [report(A, 1)], "groups": told}))["groups"]
    assert (shown["lag"], shown["last_seen"], shown["state"]) == (7, -1.0, "ok")
    assert [(each["process"], each["partitions"]) for each in shown["members"]] == [("one", [0, 1, 2]), ("", [3])]
    assert [each["instance"] for each in shown["publishers"]] == [A, B]


@pytest.mark.parametrize(
    ("now", "before", "state", "text"),
    [
        ({"lag": 5}, {"lag": 5}, "stuck", "has 5 events to handle and no process."),
        ({"lag": 5, "members": {A: [0]}}, {"lag": 5}, "stuck", "has 5 events to handle, and handled none"),
        ({"lag": 5, "members": {A: [0]}, "acks": 3}, {"lag": 5}, "ok", None),
        ({"lag": 9000, "members": {A: [0]}, "acks": 3}, {"lag": 2000}, "warning", "7000 more than"),
        ({"mixed": True}, {}, "warning", "two different programs listen as the group auth-greet"),
    ],
)
def test_problems_of_a_group(now: dict[str, Any], before: dict[str, Any], state: str, text: str | None) -> None:
    """In the words of `lightbus doctor`: no members, no progress, or growing lag."""
    [shown] = PAGES["groups"](view({"groups": [group(**now)]}, {"groups": [group(**before)]}))["groups"]
    assert shown["state"] == state
    assert [text in each["text"] for each in shown["why"]] == ([] if text is None else [True])


def test_a_group_whose_listener_has_stopped() -> None:
    """Its process runs: the listener is to be corrected; no advice to start or remove anything."""
    now = {"reports": [report(A, 1, stopped="ValueError: x")], "groups": [group(lag=5)]}
    [shown] = PAGES["groups"](view(now, now))["groups"]
    [why] = shown["why"]
    assert f"has 5 events to handle and no listener: that of {peer(instance=A).announcement} has stopped" in why["text"]
    assert why["remedy"] == "Mend its handler, and start the worker again."
    assert shown["state"] == "stuck"


@pytest.mark.parametrize(("service", "state", "text"), [
    ("auth", "suspect", f"and no process that answers: {peer(instance=A).announcement} does not."),
    ("auth", "draining", "and no process."),
    ("mail", "suspect", "and no process."),
])  # fmt: skip
def test_a_group_whose_process_does_not_answer(service: str, state: str, text: str) -> None:
    """No advice to start a process that hangs, nor to remove the group; it stays stuck."""
    silent = PeerReport(peer=peer(service, instance=A), state=state)
    [shown] = PAGES["groups"](view({"reports": [silent], "groups": [group(lag=5)]}))["groups"]
    [why] = shown["why"]
    assert shown["state"] == "stuck"
    assert text in why["text"]
    assert ("groups remove" in why["remedy"]) is (text == "and no process.")


def test_reason_of_a_waiting_event() -> None:
    """For the groups without progress that are asked for, and no others."""
    told = [group(lag=5), group(name="auth-count", lag=1, members={A: [0]}), group(name="auth-mail", lag=2)]
    found = why_waiting(view({"groups": told}), {"auth-greet", "auth-count"})
    assert list(found) == ["auth-greet"]
    assert "has 5 events to handle and no process" in found["auth-greet"]


def test_journals_page_shows_refused_events() -> None:
    """A worker reports it as part of its health; its other problems are on other pages."""
    full = Finding(level=Level.WARNING, check="health", text=f"auth: {NOT_KEPT} The disk is full: make room.")
    shown = PAGES["journals"](
        view({}, findings=[BAD, full, replace(BAD, check="journals"), replace(full, level=Level.OK)])
    )
    assert [each["text"] for each in shown["findings"]] == [full.text, BAD.text]


def test_peers_page_shows_clock_and_problems() -> None:
    """All peers, with their clocks and their own problems."""
    now = {"reports": [report(A, 4), report(B, 4)], "skews": {A: 0.5}}
    first, second = PAGES["peers"](view(now, {"reports": [report(A, 0)]}, findings=[BAD, FINE]))["peers"]
    assert (first["skew"], first["calls"], [each["text"] for each in first["why"]]) == (0.5, 2.0, [BAD.text])
    assert (second["skew"], second["calls"]) == (None, 4.0)


def test_pages_of_many_workers_are_bounded() -> None:
    """A hundred workers with a thousand procedures, and calls between all services, take less than a megabyte."""
    many = []
    for number in range(100):
        each = report(f"{number:016x}", 1)
        procedures = [procedure(f"p{number}_{n}", 1, web=1, shop=2) for n in range(10)]
        many.append(replace(each, stats={**each.stats, "procedures": procedures}))
    edges = [
        Edge(source=f"s{source}", target=f"s{target}", kind="calls", name=f"auth.p{target}_{n}", count=1)
        for source in range(20)
        for target in range(20)
        for n in range(12)
    ]
    groups = [group(f"{number:016x}", name=f"g{name}") for number in range(100) for name in range(3)]
    seen: dict[str, Any] = {"reports": many, "groups": groups, "edges": edges}
    sizes = {page: len(encoded(make(view(seen, seen, name="auth")))) for page, make in PAGES.items()}
    assert max(sizes.values()) < 1_000_000, sizes
    assert len(PAGES["overview"](view(seen, seen))["edges"]) == 400
