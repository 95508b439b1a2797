"""Several streams as one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator

import pytest

from lightbus.dashboard.together import together


def test_each_value_has_the_number_of_its_stream() -> None:
    """In the order of each stream, until all have ended."""

    async def values(*told: bytes) -> AsyncGenerator[bytes, None]:
        for each in told:
            yield each

    async def read() -> list[tuple[str, bytes]]:
        return [each async for each in together([values(b"a", b"b"), values(), values(b"c")])]

    told = asyncio.run(read())
    assert sorted(told) == [("0", b"a"), ("0", b"b"), ("2", b"c")]
    assert [value for name, value in told if name == "0"] == [b"a", b"b"]


def test_all_end_with_who_reads() -> None:
    """Also one that waits for something, and one that waits until it is read; nothing is read ahead."""
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
        async with contextlib.aclosing(together([waits(), tells()])) as told:  # type: ignore[type-var]
            return [await anext(told), await anext(told)]

    assert asyncio.run(read()) == [("1", b"0"), ("1", b"1")]
    assert sorted(ended) == ["tells", "waits"]
    assert len(made) < 10


def test_one_that_fails_ends_all() -> None:
    """Else its page would show no more, and look as if nothing happened; a browser asks for a broken stream again."""
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
        async for each in together([waits(), fails()]):
            told.append(each)

    with pytest.raises(KeyError, match="of another version"):
        asyncio.run(asyncio.wait_for(read(), 60.0))
    assert (told, ended) == ([("1", b"1")], ["waits"])
