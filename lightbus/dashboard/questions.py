"""Requests to the bus that a page makes on demand: an API, dead letters, stored events, the state of one event."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from ..cli.support.catalogue import served_apis, split_name
from ..cli.support.connection import SERVICE, Connection, first_answer
from ..cli.support.publishers import ask_each, ask_for_groups
from ..core.peers import Peer
from ..engine.events_api import split_native_id
from ..events.newest import newest_of
from ..exceptions import LightbusException
from ..wire.plain import shown_form

__all__ = [
    "MAX_SHOWN",
    "dead_letters",
    "describe_api",
    "event_states",
    "history",
    "oldest_events",
    "silent_peers",
    "workers",
]

MAX_SHOWN = 500
"""The most events, or dead letters, in one answer to a page."""


async def describe_api(bus: Connection, name: str) -> dict[str, Any]:
    """
    Return the descriptions and schemas of an API, for each of the forms in which it is served.

    Why a form could not be described is in `missing`. Raises the error if none could be.
    """
    api, _ = split_name(name, served_apis(workers(bus)))
    forms: defaultdict[tuple[int, str], list[Peer]] = defaultdict(list)
    for peer, info in api.served:
        forms[info.version, info.digest].append(peer)
    asked = (first_answer(peers, lambda peer: _form(bus, peer, api.name)) for peers in forms.values())
    described = await asyncio.gather(*asked, return_exceptions=True)
    failed = [each for each in described if isinstance(each, BaseException)]
    for error in failed:
        if len(failed) == len(forms) or not isinstance(error, LightbusException):
            raise error
    served_by = api.fields()["peers"]
    return {
        "api": api.name,
        "mixed": api.is_mixed,
        "peers": served_by,
        "missing": [str(error) for error in failed],
        "forms": [
            {**form, "digest": digest, "peers": [each for each in served_by if each["digest"] == digest]}
            for (_, digest), form in zip(forms, described, strict=True)
            if not isinstance(form, BaseException)
        ],
    }


async def _form(bus: Connection, peer: Peer, api: str) -> dict[str, Any]:
    described, schema = await asyncio.gather(bus.ask(peer, "describe", api=api), bus.ask(peer, "schema", api=api))
    members = {"procedures": "rpcs", "events": "events"}
    made = {
        kind: [{**schema.get(key, {}).get(each["name"], {}), **each} for each in described[kind]]
        for kind, key in members.items()
    }
    return {"version": described["version"], "doc": described["doc"], **made}


async def dead_letters(bus: Connection, group: str) -> dict[str, Any]:
    """
    Return the dead letters (of one group), the latest first, each with the publisher that stores it.

    `more` is the number of those left out. Which peers did not answer, so that their letters are missing, is in
    `silent`. Of a publisher with more than MAX_SHOWN, whose letters are in several journals, the last ones of the last
    journals are taken.
    """
    peers = workers(bus)
    starts = dict.fromkeys((peer.instance for peer in peers), 0)
    for peer, listed in await ask_for_groups(bus, peers, quietly=True):
        dead = {each["name"]: int(each["dead"]) for each in listed}  # a group is reported for each of its APIs
        count = sum(number for name, number in dead.items() if group in ("", name))
        starts[peer.instance] = max(0, count - MAX_SHOWN)
    read = await asyncio.gather(*(_letters_of(bus, peer, group, starts[peer.instance]) for peer in peers))
    answers = [(peer, letters) for peer, letters in zip(peers, read, strict=True) if letters is not None]
    found = [
        {**each, "publisher": peer.announcement.service, "instance": peer.instance}
        for peer, letters in answers
        for each in letters
    ]
    count = len(found) + sum(starts[peer.instance] for peer, _ in answers)
    found = sorted(found, key=lambda each: -float(each["died_at"]))[:MAX_SHOWN]
    return {
        "dead": [_shown(each) for each in found],
        "more": count - len(found),
        "silent": silent_peers(bus, answers),
    }


async def _letters_of(bus: Connection, peer: Peer, group: str, start: int) -> list[dict[str, Any]] | None:
    """Return the last dead letters of a publisher, page by page, without the first `start`; None if it is silent."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    skip = start
    while skip <= start + MAX_SHOWN:  # a page more than was counted: others may have come
        answers = await ask_each(bus, [peer], "dead", group=group, skip=skip)
        if not answers:
            return None
        page = answers[0][1]
        if not page:
            break
        found |= {(each["group"], each["native_id"]): each for each in page}
        skip += len(page)
    return [*found.values()]


async def history(bus: Connection, name: str, start: float | None, stop: float | None) -> dict[str, Any]:
    """
    Return the newest stored events of a name (`auth.user_registered`, `auth.*`), oldest first.

    Which of its publishers did not answer, so that their events are missing, is in `silent`.
    """
    api, _, event = name.rpartition(".")
    peers = bus.client.engine.snapshot.publishers(api)
    asked: dict[str, Any] = {"api": api, "event": event or "*", "start": start, "stop": stop, "limit": MAX_SHOWN}
    answers = await ask_each(bus, [*peers], "history", **asked)
    parts = [[{**each, "publisher": peer.instance} for each in listed] for peer, listed in answers]
    events = [_shown(each) for each in newest_of(parts, MAX_SHOWN)]
    return {"events": events, "silent": silent_peers(bus, answers, api=api)}


def silent_peers(bus: Connection, answers: Sequence[tuple[Peer, Any]], *, api: str = "") -> list[str]:
    """Return the known peers (that announce an API) of which there is no answer."""
    answered = {peer.instance for peer, _ in answers}
    return [
        str(peer.announcement)
        for peer in bus.known()
        if peer.instance not in answered
        and peer.announcement.service != SERVICE
        and (not api or api in (peer.announcement.api_names or ()))
    ]


def _shown(event: dict[str, Any]) -> dict[str, Any]:
    return {**event, "kwargs": shown_form(event["kwargs"])}


async def event_states(bus: Connection, native_id: str) -> dict[str, Any]:
    """
    Return the state of an event in each group that receives it: `waiting`, `acked` or `dead`.

    `silent` lists the workers that did not answer: one of them may have it stored.
    """
    try:
        split_native_id(native_id)
    except ValueError:  # workers refuse such an id, which would be reported as an error of theirs
        return {"stored": False, "groups": {}, "silent": []}
    peers = workers(bus)
    answers = await ask_each(bus, peers, "handled", quietly=True, native_ids=[native_id])
    found = [answer[native_id] for _, answer in answers if native_id in answer]
    groups = {group: state for each in found for group, state in each.items()}
    return {"stored": bool(found), "groups": groups, "silent": silent_peers(bus, answers)}


async def oldest_events(bus: Connection) -> dict[str, Any]:
    """Return when the oldest event of each journal was fired, in seconds since 1970."""
    answers = await ask_each(bus, workers(bus), "journals", quietly=True)
    served = [(peer, each["journal"]) for peer, listed in answers for each in listed if each.get("journal")]

    async def oldest(peer: Peer, journal: str) -> float | None:
        try:
            options = {"peer": peer.instance, "timeout": 2.0}
            asked = {"journal": journal, "limit": 1}
            page = await bus.client.call_rpc_remote("internal.events", "kept", asked, options)
        except LightbusException:
            return None
        return float(page["events"][0]["published_at"]) if page and page["events"] else None

    times = await asyncio.gather(*(oldest(*each) for each in served))
    return {"oldest": {journal: at for (_, journal), at in zip(served, times, strict=True)}}


def workers(bus: Connection) -> list[Peer]:
    """Return the peers that are up, without commands such as this one."""
    return [peer for peer in bus.known() if peer.is_live and peer.announcement.service != SERVICE]
