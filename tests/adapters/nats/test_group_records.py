"""Records of groups: written only over a known revision, and read again after a conflict."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from helpers import wait_until_async
from helpers.nats_servers import NatsServer
from lightbus.adapters.nats import group_records as module
from lightbus.adapters.nats.connection import NatsConnection
from lightbus.adapters.nats.group_records import GroupRecordsBucket
from lightbus.adapters.nats.settings import NatsSettings

KEY = "part.mail.1"


@pytest.fixture(scope="module")
def server() -> Iterator[NatsServer]:
    """Run a server."""
    with NatsServer() as server:
        yield server


def run(
    server: NatsServer,
    name: str,
    test: Callable[[GroupRecordsBucket, GroupRecordsBucket], Awaitable[None]],
    **given: Any,
) -> None:
    """Run a test with the records of two processes."""

    async def main() -> None:
        connections = [NatsConnection(NatsSettings(servers=(server.url,), **given)) for _ in range(2)]
        buckets = [GroupRecordsBucket(connection, name) for connection in connections]
        try:
            for bucket in buckets:
                await bucket.open()
            await test(*buckets)
        finally:
            for bucket, connection in zip(buckets, connections, strict=True):
                bucket.close()
                await connection.close()

    asyncio.run(main())


def test_newer_record_is_not_deleted(server: NatsServer) -> None:
    """If a revision is named; that one is deleted."""

    async def test(ours: GroupRecordsBucket, theirs: GroupRecordsBucket) -> None:
        await ours.put(KEY, {"owner": "a"})
        old = ours.records[KEY].revision
        await theirs.put(KEY, {"owner": "b"})
        await ours.delete(KEY, revision=old)
        await wait_until_async(lambda: ours.records[KEY].value == {"owner": "b"})
        await ours.delete(KEY, revision=ours.records[KEY].revision)
        assert KEY not in ours.records
        await wait_until_async(lambda: KEY not in theirs.records)

    run(server, "newer", test)


def test_observers_are_notified_of_changes(server: NatsServer) -> None:
    """They get the key; a deleted record is gone."""

    async def test(ours: GroupRecordsBucket, theirs: GroupRecordsBucket) -> None:
        heard: list[str] = []
        end = theirs.observe(heard.append)
        await ours.put(KEY, {"owner": "a"})
        await wait_until_async(lambda: KEY in theirs.records)
        assert theirs.records[KEY].value == {"owner": "a"}
        await ours.delete(KEY)
        await wait_until_async(lambda: KEY not in theirs.records)
        assert set(heard) == {KEY}
        end()

    run(server, "heard", test)


def test_failing_observer_does_not_stop_others(server: NatsServer, caplog: pytest.LogCaptureFixture) -> None:
    """An observer that raises is logged, others are called, and later records are observed."""

    async def test(ours: GroupRecordsBucket, theirs: GroupRecordsBucket) -> None:
        def fail(key: str) -> None:
            raise ValueError(key)

        heard: list[str] = []
        ends = [theirs.observe(fail), theirs.observe(heard.append)]
        for number in (1, 2):
            await ours.put(f"part.mail.{number}", {})
        await wait_until_async(lambda: heard == ["part.mail.1", "part.mail.2"])
        for end in ends:
            end()

    with caplog.at_level("ERROR", logger="lightbus.events"):
        run(server, "fails", test)
    assert [record.args[0] for record in caplog.records if record.args] == ["part.mail.1", "part.mail.2"]


def test_unknown_revision_is_not_overwritten(server: NatsServer) -> None:
    """It is read instead, also if it is a record of our own whose confirmation was lost."""

    async def test(ours: GroupRecordsBucket, theirs: GroupRecordsBucket) -> None:
        await ours.put(KEY, {"count": 1})
        await wait_until_async(lambda: KEY in theirs.records)
        stale = theirs.records[KEY]
        await ours.put(KEY, {"count": 2})
        theirs.records[KEY] = stale  # as if the watch had not reported the change
        assert await theirs.replace(KEY, {"count": 9}) is False
        assert theirs.records[KEY].value == {"count": 2}
        assert await theirs.replace(KEY, {"count": 3}) is True

    run(server, "unknown", test)


def test_update_changes_the_current_record(server: NatsServer) -> None:
    """Of two that count at the same time none is lost; a change to None writes nothing."""

    def counted(value: dict[str, int] | None) -> dict[str, int]:
        return {"count": (value or {"count": 0})["count"] + 1}

    async def test(ours: GroupRecordsBucket, theirs: GroupRecordsBucket) -> None:
        await asyncio.gather(*(each.update(KEY, counted) for each in [ours, theirs] * 10))
        await wait_until_async(lambda: ours.records[KEY].value == theirs.records[KEY].value == {"count": 20})
        assert await ours.update(KEY, lambda value: None) is None
        assert ours.records[KEY].value == {"count": 20}

    run(server, "counted", test)


def test_records_of_ended_members_are_removed(server: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether they were killed or have left; not those of partitions, or of members that were there lately."""
    monkeypatch.setattr(module, "LEFT_AFTER", 0.0)

    async def test(ours: GroupRecordsBucket, theirs: GroupRecordsBucket) -> None:
        for key in (KEY, "member.mail.killed", "member.mail.left", "member.mail.here"):
            await ours.put(key, {})
        await ours.delete("member.mail.left")
        await ours.put("member.mail.here", {})
        await theirs._remove_left([])
        assert await _subjects(server, "left") == {KEY, "member.mail.killed", "member.mail.left", "member.mail.here"}
        another = GroupRecordsBucket(ours._connection, "left")
        await another.open()
        assert another.records.keys() == {KEY, "member.mail.here"}
        assert await _subjects(server, "left") == {KEY, "member.mail.here"}
        another.close()

    run(server, "left", test)


async def _subjects(server: NatsServer, name: str) -> set[str]:
    """Return the keys of which the servers keep anything."""
    import nats

    client = await nats.connect(server.url)
    try:
        info = await client.jetstream().stream_info(f"KV_{name}", subjects_filter=">")
        return {subject.removeprefix(f"$KV.{name}.") for subject in info.state.subjects or {}}
    finally:
        await client.close()


def test_broken_watch_is_noticed(server: NatsServer) -> None:
    """If nothing could be written lately, it is unknown what others write; it is current again with the next report."""

    async def test(ours: GroupRecordsBucket, theirs: GroupRecordsBucket) -> None:
        await ours.put(KEY, {})
        assert ours.is_current
        since = ours.current_since
        await wait_until_async(lambda: not ours.is_current)
        await ours.put(KEY, {})
        await wait_until_async(lambda: ours.is_current)
        assert ours.current_since > since

    run(server, "current", test, member_timeout=0.2)


def test_the_watch_goes_on_after_an_unexpected_error(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Of the client library, for example, when it is begun anew: later records are noticed."""
    monkeypatch.setattr(module, "READY_TIMEOUT", 0.05)

    async def test(ours: GroupRecordsBucket, theirs: GroupRecordsBucket) -> None:
        with monkeypatch.context() as broken:
            broken.setattr(ours, "_on_servers", lambda: int("none"))
            await wait_until_async(lambda: "The records of the bucket unexpected are not watched" in caplog.text)
        await theirs.put(KEY, {})
        await wait_until_async(lambda: KEY in ours.records)

    run(server, "unexpected", test, member_timeout=0.2)
