"""What is on record of the groups of an API: a bucket of the JetStream, watched, so that all members know the same.

Each partition of a group is one record, which is only ever written over the revision that the writer knows: who has
lost a partition without having noticed cannot record anything of it any more.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, NamedTuple

from nats.js import JetStreamContext
from nats.js.api import KeyValueConfig, StorageType
from nats.js.errors import BucketNotFoundError, KeyNotFoundError, KeyWrongLastSequenceError
from nats.js.kv import KeyValue

from .connection import NatsConnection

__all__ = ["GroupRecordsBucket", "Held"]

READY_TIMEOUT = 5.0


class Held(NamedTuple):
    """A record, its revision, and when it was seen last by the clock of this process."""

    value: Any
    revision: int
    seen_at: float


class GroupRecordsBucket:
    """
    Keys are `info.<group>`, `part.<group>.<partition>`, `member.<group>.<instance>`, `dead.<group>.<sequence>`.

    Args:
        connection: to the servers.
        name: of the bucket.

    """

    def __init__(self, connection: NatsConnection, name: str) -> None:
        self.records: dict[str, Held] = {}
        self.changed = asyncio.Event()
        """Set when something has changed; whoever waits for that clears it before looking."""
        self._connection = connection
        self._name = name
        self._bucket: KeyValue | None = None
        self._watching: asyncio.Task[None] | None = None
        self._closed = False
        self._listeners: list[Callable[[str], None]] = []

    def observe(self, changed: Callable[[str], None]) -> Callable[[], None]:
        """Call back with the key of each record that changes; return what ends that."""
        self._listeners.append(changed)
        return lambda: self._listeners.remove(changed)

    async def open(self, jetstream: JetStreamContext) -> None:
        """Return when all that is on record is known here."""
        with self._connection.explained():
            try:
                self._bucket = await jetstream.key_value(self._name)
            except BucketNotFoundError:
                config = KeyValueConfig(
                    bucket=self._name,
                    history=1,
                    replicas=self._connection.settings.replicas,
                    storage=StorageType.FILE,
                )
                self._bucket = await jetstream.create_key_value(config)
            watcher = await self._bucket.watchall()
            while (entry := await self._next(watcher)) is not None:
                self._take(entry)
        self._watching = asyncio.get_running_loop().create_task(self._watch(watcher))

    async def _watch(self, watcher: KeyValue.KeyWatcher) -> None:
        while not self._closed:  # a record that comes as the task is cancelled may swallow that
            try:
                entry = await self._next(watcher)
            except TimeoutError:
                continue
            if entry is not None:
                self._take(entry)

    @staticmethod
    async def _next(watcher: Any) -> Any:
        return await watcher.updates(READY_TIMEOUT)

    def _take(self, entry: KeyValue.Entry) -> None:
        known = self.records.get(entry.key)
        if known is not None and entry.revision is not None and known.revision >= entry.revision:
            return
        if entry.operation in ("DEL", "PURGE") or not entry.value:
            self.records.pop(entry.key, None)
        else:
            self.records[entry.key] = Held(json.loads(entry.value), entry.revision or 0, time.monotonic())
        self._tell(entry.key)

    def _tell(self, key: str) -> None:
        self.changed.set()
        for listener in list(self._listeners):
            listener(key)

    async def put(self, key: str, value: Any) -> None:
        """Record something, whatever was there. Raises EventBackendError."""
        await self._write(key, value, lambda bucket, data: bucket.put(key, data))

    async def replace(self, key: str, value: Any) -> bool:
        """Record something over what is known here; return False where it is not that any more."""
        known = self.records.get(key)

        def write(bucket: KeyValue, data: bytes) -> Awaitable[int]:
            writing: Awaitable[int] = (
                bucket.create(key, data) if known is None else bucket.update(key, data, last=known.revision)
            )
            return writing

        try:
            await self._write(key, value, write)
        except KeyWrongLastSequenceError:
            return False
        return True

    async def _write(self, key: str, value: Any, write: Callable[[KeyValue, bytes], Awaitable[int]]) -> None:
        assert self._bucket is not None
        with self._connection.explained():
            try:
                revision = await write(self._bucket, json.dumps(value).encode())
            except KeyWrongLastSequenceError as error:
                raised = error
            else:
                self.records[key] = Held(value, revision, time.monotonic())
                self._tell(key)
                return
        raise raised

    async def delete(self, key: str) -> None:
        """Forget a record."""
        assert self._bucket is not None
        with self._connection.explained(), suppress(KeyNotFoundError):
            await self._bucket.delete(key)
        if self.records.pop(key, None) is not None:
            self._tell(key)

    def close(self) -> None:
        """Watch no more."""
        self._closed = True
        if self._watching is not None:
            self._watching.cancel()
