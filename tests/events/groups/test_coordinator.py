"""The publisher's side of groups: its answers, what it stores before them, and its safety from foreign messages."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.group_talk import A, B, C, Talk, run
from helpers.publishing import Publishes
from lightbus.adapters.sqlite.topic import Topic
from lightbus.events.groups import ack_waiters
from lightbus.exceptions import LightbusTimeout
from lightbus.wire.envelope import (
    Ack,
    Acked,
    AnyMessage,
    Assign,
    Beat,
    Fetch,
    Join,
    Leave,
    Open,
    Page,
    Reject,
    Release,
    Request,
    Start,
    Started,
    Streams,
)


def test_a_member_and_its_acknowledgements(tmp_path: Path) -> None:
    """Joining, opening, fetching, acknowledging, leaving; an acknowledgement is stored before it is answered."""

    async def test(publisher: Publishes) -> None:
        talk = Talk(publisher)
        assigned = await talk.join()
        assert isinstance(assigned, Assign)
        assert (assigned.partitions, assigned.events) == (list(range(16)), ["seen"])
        await publisher.fire("seen", n=1)
        journal = publisher.journals.own()
        opened = await talk.ask(Open("auth", "shop", assigned.generation, list(range(16)), ["seen"], "$"))
        assert isinstance(opened, Streams)
        [[name, event, partition, cursor, head, possibly_delivered]] = opened.streams
        assert (name, event, cursor, head, possibly_delivered) == (journal.id, "seen", 0, journal.head, 0)
        page = await talk.ask(Fetch("auth", name, "seen", partition, 0, 10))
        assert isinstance(page, Page)
        assert [row[0] for row in page.records] == [journal.head]
        ack = Ack("auth", "shop", assigned.generation, [[name, "seen", partition, journal.head]])
        assert await talk.ask(ack) == Acked([])
        assert journal.cursors.of("auth", "shop") == {Topic("auth", "seen", partition): journal.head}
        assert journal.cursors.held("auth", "shop") == dict.fromkeys(range(16), journal.epoch)
        assert await talk.ask(Leave("auth", "shop")) == Acked([])
        assert journal.cursors.held("auth", "shop") == {}

    run(tmp_path, test)


def test_calls_are_left_to_others(tmp_path: Path) -> None:
    """Messages that no consumer sends are left to other handlers."""

    async def test(publisher: Publishes) -> None:
        request = Request(A, "auth", "x", 1.0, B, [], None, 0, {})
        assert type(request) not in publisher.coordinator.handlers

    run(tmp_path, test)


def test_when_all_have_handled(tmp_path: Path) -> None:
    """A waiter is called when the last group has acknowledged its event; at once if there is none."""

    async def test(publisher: Publishes) -> None:
        told: list[int] = []
        message = await publisher.fire("seen", n=1)
        journal = publisher.journals.own()
        [(topic, head)] = journal.topics.of("auth").items()
        publisher.coordinator.when_handled(topic, head, 5.0, lambda error: told.append(1))
        assert told == [1]
        talk = Talk(publisher)
        assigned = await talk.join(since="0")
        assert isinstance(assigned, Assign)
        publisher.coordinator.when_handled(topic, head, 5.0, lambda error: told.append(2))
        assert told == [1]
        await talk.ask(Ack("auth", "shop", assigned.generation, [[journal.id, "seen", topic.partition, head]]))
        assert told == [1, 2]
        assert message.native_id == f"{journal.id}-{head}"

    run(tmp_path, test)


def test_waiters_are_dropped_and_limited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """At their deadline they are dropped; above the limit they are told at once, counted, and logged once."""
    monkeypatch.setattr(ack_waiters, "MAX_WAITERS", 2)

    async def test(publisher: Publishes) -> None:
        told: list[object] = []
        await Talk(publisher).join()
        await publisher.fire("seen", n=1)
        coordinator = publisher.coordinator
        [(topic, head)] = publisher.journals.own().topics.of("auth").items()
        for seconds in (1.0, 60.0, 60.0, 60.0):
            coordinator.when_handled(topic, head, seconds, told.append)
        assert [type(each) for each in told] == [LightbusTimeout, LightbusTimeout]
        assert coordinator.counts["unwatched"] == 2
        assert caplog.text.count("callers wait until their events are handled") == 1
        coordinator.tick(time.monotonic() + 2.0)
        coordinator.when_handled(topic, head, 60.0, told.append)
        assert len(told) == 2
        coordinator.directory.forget("auth", "shop")
        assert told[2:] == [None, None]

    run(tmp_path, test)


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**40), 2**70)
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=8,
)


rows = st.lists(anything, max_size=4)


HOSTILE = st.one_of(
    st.builds(
        Join, st.sampled_from([A, C, ""]), st.sampled_from(["auth", "x"]), st.sampled_from(["shop", "", "x"]), rows,
        st.text(max_size=5), st.text(max_size=5), st.binary(max_size=20), st.floats(), st.floats(), st.text(max_size=5),
        anything, rows, st.integers(),
    ),
    st.builds(Open, st.just("auth"), st.sampled_from(["shop", ""]), st.integers(0, 9), rows, rows, anything),
    st.builds(
        Fetch, st.just("auth"), st.text(max_size=5), st.just("seen"), st.integers(), st.integers(), st.integers(),
        st.integers(),
    ),
    st.builds(Ack, st.just("auth"), st.just("shop"), st.integers(0, 9), rows),
    st.builds(
        Start, st.just("auth"), st.just("shop"), st.integers(0, 9), st.text(max_size=5), st.just("seen"),
        st.integers(0, 20), st.integers(), st.integers(),
    ),
    st.builds(
        Reject, st.just("auth"), st.just("shop"), st.integers(0, 9), st.text(max_size=5), st.just("seen"),
        st.integers(0, 20), st.integers(), st.integers(), st.text(max_size=5),
    ),
    st.builds(Release, st.just("auth"), st.just("shop"), st.integers(0, 9), rows),
    st.builds(Leave, st.just("auth"), st.just("shop")),
    st.builds(Beat, rows, rows),
)  # fmt: skip


@given(messages=st.lists(HOSTILE, max_size=8))
def test_foreign_messages_do_no_harm(tmp_path_factory: pytest.TempPathFactory, messages: list[AnyMessage]) -> None:
    """Fields with any content get an answer or none; a regular member is served all the same."""

    async def test(publisher: Publishes) -> None:
        honest, stranger = Talk(publisher, b"honest"), Talk(publisher, b"stranger")
        assigned = await honest.join(B, group="mine")
        assert isinstance(assigned, Assign)
        await publisher.fire("seen", n=1)
        await stranger.join(C, group="shop")
        for message in messages:
            publisher.handle(b"stranger", 1, message)
            await asyncio.sleep(0)
        publisher.coordinator.tick(time.monotonic())
        publisher.coordinator.cursors.save()
        opened = await honest.ask(Open("auth", "mine", assigned.generation, list(range(16)), ["seen"], "$"))
        assert isinstance(opened, Streams)
        assert len(opened.streams) == 1

    run(tmp_path_factory.mktemp("hostile"), test)


FAR = 2**62


def test_acknowledgements_beyond_the_head_are_ignored(tmp_path: Path) -> None:
    """A member that acknowledges events that do not exist yet is wrong; its group gets later events."""

    async def test(publisher: Publishes) -> None:
        talk = Talk(publisher)
        await publisher.fire("seen", n=1)
        journal = publisher.journals.own()
        everywhere = [[journal.id, event, p, FAR] for p in range(16) for event in ("seen", "unheard")]
        assigned = await talk.join(positions=everywhere)
        assert isinstance(assigned, Assign)
        ack = await talk.ask(Ack("auth", "shop", assigned.generation, everywhere))
        assert ack == Acked(list(range(16)))
        for partition in range(16):
            where = (assigned.generation, journal.id, "seen", partition, FAR)
            assert await talk.ask(Start("auth", "shop", *where, 1)) == Started(0)
            assert await talk.ask(Reject("auth", "shop", *where, 1, "E")) == Acked([partition])
        assert publisher.coordinator.counts["impossible_acks"] == 64
        await publisher.fire("seen", n=2)
        group = publisher.coordinator.groups["auth", "shop"]
        assert publisher.coordinator.progress.lag(group) == 1

    run(tmp_path, test)
