"""The records of the groups of an API: a key-value bucket of the JetStream, watched by all members.

Each partition of a group is one record. A write names the revision that the writer knows, and fails if there is a newer
one: a member that has lost a partition without noticing can no longer change its record.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, NamedTuple

import nats.errors
from nats.js import JetStreamContext
from nats.js.api import KeyValueConfig, StorageType
from nats.js.errors import APIError, BucketNotFoundError, KeyNotFoundError, KeyWrongLastSequenceError, NotFoundError
from nats.js.kv import KeyValue

from ...exceptions import EventBackendError
from ...phrases import INTERNAL_ERROR
from ...recurring import RecurringLog
from .connection import NatsConnection
from .record_forms import read_record

__all__ = ["GroupRecordsBucket", "RecordedValue"]

logger = logging.getLogger("lightbus.events")

READY_TIMEOUT = 5.0
AGAIN_AFTER = 0.1

LEFT_AFTER = 3600.0
"""Seconds by which the record of a member is older than the newest of all: its process has ended, however it did."""

MAX_LEFT = 200
"""Records of ended members that are removed at a time; more than a start leaves behind."""

WRONG_REVISION = (10071, 10164)
"""The error codes of the servers when there is a newer revision than the named one."""


class RecordedValue(NamedTuple):
    """A record, its revision, and the time.monotonic() at which this process last saw it."""

    value: Any
    revision: int
    seen_at: float


class GroupRecordsBucket:
    """
    The bucket of one API. Keys are `info.<group>`, `part.<group>.<partition>`, `member.<group>.<instance>`,
    `dead.<group>.<sequence>`.

    Args:
        connection: the connection to the servers.
        name: the name of the bucket.

    """

    def __init__(self, connection: NatsConnection, name: str) -> None:
        self.records: dict[str, RecordedValue] = {}
        self.unreadable: dict[str, int] = {}
        """Revisions of records written by other programs: they are ignored until a member overwrites them."""
        self.changed = asyncio.Event()
        """Set when a record has changed; whoever waits for it clears it before reading the records."""
        self.current_since = time.monotonic()
        """Since when the watch works without a break: a member without news before that may still be alive."""
        self._written_at = self.current_since
        self._unreported: tuple[int, float] | None = None
        """A revision written by us, and the time, that the watch has not reported yet."""
        self._connection = connection
        self._name = name
        self._bucket: tuple[object, KeyValue] | None = None
        """The bucket, and the client by which it is reached: the connection makes another one when a server ends it."""
        self._watching: asyncio.Task[None] | None = None
        self._closed = False
        self._listeners: list[Callable[[str], None]] = []
        self._failures = RecurringLog(logger)

    def observe(self, changed: Callable[[str], None]) -> Callable[[], None]:
        """Call `changed` with the key of each record that changes; return a function that ends that."""
        self._listeners.append(changed)
        return lambda: self._listeners.remove(changed)

    async def open(self) -> None:
        """Read all records, and start to watch the bucket."""
        bucket = await self._on_servers()
        found: list[Any] = []
        async with self._connection.asking():
            watcher = await bucket.watchall()
            try:
                while (entry := await self._next(watcher)) is not None:
                    found.append(entry)
                    self._take(entry)
                await self._remove_left(found)
            except BaseException:
                await _end(watcher)
                raise
        self._watching = asyncio.get_running_loop().create_task(self._watch(watcher))

    async def _remove_left(self, found: Sequence[Any]) -> None:
        """
        Remove the records of members whose processes have ended, also those that only say that a member has left.

        Each process has a name of its own. Their number would grow for ever, and all are read by each one that starts.
        """
        # By the servers' clock alone: ours may be wrong.
        times = {entry.key: entry.created.timestamp() for entry in found if isinstance(entry.created, datetime)}
        before = max(times.values(), default=0.0) - LEFT_AFTER
        left = [key for key, at in times.items() if key.startswith("member.") and at < before][:MAX_LEFT]
        jetstream = await self._connection.jetstream()
        with suppress(nats.errors.Error, TimeoutError):  # our account may not: then they stay
            for key in left:
                await jetstream.purge_stream(f"KV_{self._name}", subject=f"$KV.{self._name}.{key}")
                self._forget(key)

    async def _on_servers(self) -> KeyValue:
        """Return the bucket, created if there is none."""
        client, known = await self._connection.client(), self._bucket
        if known is None or known[0] is not client:
            jetstream = await self._connection.jetstream()
            async with self._connection.asking():
                known = self._bucket = client, await self._find_or_make(jetstream)
        return known[1]

    async def _find_or_make(self, jetstream: JetStreamContext) -> KeyValue:
        try:
            return await jetstream.key_value(self._name)
        except BucketNotFoundError:
            replicas = self._connection.settings.replicas
            config = KeyValueConfig(bucket=self._name, history=1, replicas=replicas, storage=StorageType.FILE)
            return await jetstream.create_key_value(config)

    async def _watch(self, watcher: KeyValue.KeyWatcher) -> None:
        while not self._closed:  # a cancellation may get lost when a record arrives at the same time
            try:
                entry = await self._next(watcher)
            except TimeoutError:
                if not self.is_current:
                    watcher = await self._restart_watch(watcher)
                continue
            if entry is not None:
                self._take(entry)

    async def _restart_watch(self, watcher: KeyValue.KeyWatcher) -> KeyValue.KeyWatcher:
        """Start a new watch: the servers seem to have lost the old one."""
        try:
            bucket = await self._on_servers()
            async with self._connection.asking():
                another = await bucket.watchall()
        except EventBackendError:
            return watcher
        except Exception as error:  # of the client library, for example: this task must go on, nobody awaits it
            text = "The records of the bucket %s are not watched for now, which is tried again: %s"
            self._failures.log("watch", logging.ERROR, text, self._name, INTERNAL_ERROR, exc_info=error)
            return watcher
        await _end(watcher)
        return another

    @property
    def is_current(self) -> bool:
        """Whether the watch works: it reports what we write ourselves, and we have written lately."""
        now, patience = time.monotonic(), self._connection.settings.member_timeout / 2
        is_heard = self._unreported is None or now - self._unreported[1] < patience
        return is_heard and now - self._written_at < patience

    @staticmethod
    async def _next(watcher: Any) -> Any:
        return await watcher.updates(READY_TIMEOUT)

    def _take(self, entry: KeyValue.Entry) -> None:
        if self._unreported is not None and (entry.revision or 0) >= self._unreported[0]:
            if not self.is_current:
                self.current_since = time.monotonic()
            self._unreported = None
        known = self.records.get(entry.key)
        if known is not None and entry.revision is not None and known.revision >= entry.revision:
            return
        if entry.operation in ("DEL", "PURGE") or not entry.value:
            self._forget(entry.key)
        else:
            self._learn(entry.key, entry.value, entry.revision or 0)
        if known is not None or entry.key in self.records:
            self._notify(entry.key)

    def _learn(self, key: str, data: bytes, revision: int) -> None:
        """Store a record; one that is no valid record of a group is logged and ignored."""
        try:
            held = RecordedValue(read_record(key, data), revision, time.monotonic())
        except ValueError as error:
            self.records.pop(key, None)
            if key not in self.unreadable:
                logger.warning(
                    "The record %s in the bucket %s was written by another program (%s) and is ignored; where a "
                    "group needs it, it is written over. Remove it: nats kv del %s %s",
                    key, self._name, error, self._name, key,
                )  # fmt: skip
            self.unreadable[key] = revision
        else:
            self.unreadable.pop(key, None)
            self.records[key] = held

    def _forget(self, key: str) -> None:
        self.records.pop(key, None)
        self.unreadable.pop(key, None)

    def _notify(self, key: str) -> None:
        self.changed.set()
        for listener in list(self._listeners):
            try:
                listener(key)
            except Exception:  # the other listeners, and the watch, must continue
                logger.exception("A change of the record %s could not be handled: %s", key, INTERNAL_ERROR)

    async def put(self, key: str, value: Any) -> None:
        """Write a record, whatever was there before. Raises EventBackendError."""
        await self._write(key, value, lambda bucket, data: bucket.put(key, data))

    async def replace(self, key: str, value: Any) -> bool:
        """Overwrite the known revision of a record; if there is a newer one, read that and return False."""
        known = self.records.get(key)
        last = self.unreadable.get(key) if known is None else known.revision

        def write(bucket: KeyValue, data: bytes) -> Awaitable[int]:
            writing: Awaitable[int] = bucket.create(key, data) if last is None else bucket.update(key, data, last=last)
            return writing

        try:
            await self._write(key, value, write)
        except KeyWrongLastSequenceError:
            await self._look(key)
            return False
        return True

    async def update(self, key: str, change: Callable[[Any], Any]) -> Any:
        """
        Change a record, and return the new value. `change` gets None if there is no record; if it returns None, nothing
        is written.

        When another process has written in between, `change` is called again with its value. Raises EventBackendError.
        """
        while True:
            known = self.records.get(key)
            value = change(None if known is None else known.value)
            if value is None or await self.replace(key, value):
                return value

    async def _look(self, key: str) -> None:
        """Read a record from the leader. It may be a write of our own whose confirmation did not arrive."""
        jetstream = await self._connection.jetstream()
        async with self._connection.asking():
            try:
                found = await jetstream.get_msg(f"KV_{self._name}", subject=f"$KV.{self._name}.{key}")
            except NotFoundError:
                self._forget(key)
                return
        known = self.records.get(key)
        if known is not None and known.revision >= (found.seq or 0):
            await asyncio.sleep(AGAIN_AFTER)  # a new leader, which has not caught up yet
        elif (found.headers or {}).get("KV-Operation") in ("DEL", "PURGE") or not found.data:
            self._forget(key)
        else:
            self._learn(key, found.data, found.seq or 0)
            if known is not None or key in self.records:
                self._notify(key)

    async def _write(self, key: str, value: Any, write: Callable[[KeyValue, bytes], Awaitable[int]]) -> None:
        bucket = await self._on_servers()
        async with self._connection.asking():
            try:
                revision = await write(bucket, json.dumps(value).encode())
            except KeyWrongLastSequenceError as error:
                raised = error
            else:
                self._note_written(revision)
                self.unreadable.pop(key, None)
                self.records[key] = RecordedValue(value, revision, time.monotonic())
                self._notify(key)
                return
        raise raised

    def _note_written(self, revision: int) -> None:
        now = time.monotonic()
        if now - self._written_at >= self._connection.settings.member_timeout / 2:
            self.current_since = now
        self._written_at = now
        if self._unreported is None:
            self._unreported = revision, now

    async def delete(self, key: str, *, revision: int | None = None) -> None:
        """Delete a record; if a revision is given, not a newer one. Raises EventBackendError."""
        bucket, known = await self._on_servers(), self.records.get(key)
        async with self._connection.asking():
            try:
                await bucket.delete(key, last=revision)
            except KeyNotFoundError:
                pass
            except APIError as error:
                if error.err_code not in WRONG_REVISION:
                    raise
                return  # the watch reports the newer one
        if known is not None and self.records.get(key) is known:  # not written again in the meantime
            del self.records[key]
            self._notify(key)

    def close(self) -> None:
        """Stop the watch."""
        self._closed = True
        if self._watching is not None:
            self._watching.cancel()


async def _end(watcher: KeyValue.KeyWatcher) -> None:
    with suppress(Exception):  # the servers may not have it any more
        await watcher.stop()  # type: ignore[no-untyped-call]
