"""Merging of several streams."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator

import pytest

from lightbus.dashboard.merging import merged


def test_each_value_has_the_number_of_its_stream() -> None:
    """Values come in the order of each stream, until all streams have ended."""

    async def values(*told: bytes) -> AsyncGenerator[bytes, None]:
        for each in told:
            yield each

    async def read() -> list[tuple[str, bytes]]:
        return [each async for each in merged([values(b"a", b"b"), values(), values(b"c")])]

    told = asyncio.run(read())
    assert sorted(told) == [("0", b"a"), ("0", b"b"), ("2", b"c")]
    assert [value for name, value in told if name == "0"] == [b"a", b"b"]


def test_all_streams_end_with_their_reader() -> None:
    """A stream that waits for a value ends, and one that waits to be read; no stream is read ahead."""
    ended: list[str] = []
    made: list[int] = []

    async def waits() -> AsyncGenerator[bytes, None]:
        try:
            await asyncio.Event().wait()
            yield b""
        finally:
            ended.append("waits")

    async def tells() -> AsyncGenerator[bytes, None]:
        try:
            for number in range(1000):
                made.append(number)
                yield b"%d" % number
        finally:
            ended.append("tells")

    async def read() -> list[tuple[str, bytes]]:
        async with contextlib.aclosing(merged([waits(), tells()])) as told:  # type: ignore[type-var]
            return [await anext(told), await anext(told)]

    assert asyncio.run(read()) == [("1", b"0"), ("1", b"1")]
    assert sorted(ended) == ["tells", "waits"]
    assert len(made) < 10


def test_a_failing_stream_ends_all() -> None:
    """Otherwise its page would silently stop; a browser reconnects a broken stream."""
    told: list[tuple[str, bytes]] = []
    ended: list[str] = []

    async def waits() -> AsyncGenerator[bytes, None]:
        try:
            await asyncio.Event().wait()
            yield b""
        finally:
            ended.append("waits")

    async def fails() -> AsyncGenerator[bytes, None]:
        yield b"1"
        raise KeyError("of another version")

    async def read() -> None:
        async for each in merged([waits(), fails()]):
            told.append(each)

    with pytest.raises(KeyError, match="of another version"):
        asyncio.run(asyncio.wait_for(read(), 60.0))
    assert (told, ended) == ([("1", b"1")], ["waits"])


def test_a_stream_that_is_cancelled_inside_ends_all() -> None:
    """What it waits for was cancelled, and not the stream: that is a failure, too."""

    async def waits() -> AsyncGenerator[bytes, None]:
        waited: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        waited.cancel()
        yield await waited

    async def read() -> list[tuple[str, bytes]]:
        return [each async for each in merged([waits()])]

    with pytest.raises(RuntimeError, match="A stream was cancelled by what it waited for"):
        asyncio.run(asyncio.wait_for(read(), 60.0))
