"""Payload values <-> msgpack: the extension types and the limits of size and depth live here only.

What a Python object is on the bus is decided in `plain.py`. Every failure of `encode` is a DeformError, every failure
of `decode` a ProtocolError.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from itertools import islice
from struct import Struct
from typing import Any
from uuid import UUID

from msgpack import ExtType, Packer, Unpacker, unpackb

from ..exceptions import DeformError, ProtocolError
from .plain import EXTENSION_TYPES, MAX_DEPTH, explain, json_form, to_plain

__all__ = [
    "MAX_CONTAINERS",
    "MAX_DECIMAL_EXPONENT",
    "MAX_DEPTH",
    "MAX_EQUAL_HASHES",
    "MAX_INT_BYTES",
    "MAX_VALUES",
    "SHORT",
    "Work",
    "decode",
    "encode",
    "encode_all",
    "json_form",
    "restore",
    "unpackb",
]

MAX_INT_BYTES = 1024
"""
Size of the largest integer. Python refuses to print one of more than 4300 digits, about 1780 bytes, because that takes
quadratic time: no stranger may hand us one that we could not even log.
"""

MAX_EQUAL_HASHES = 64
"""
Keys of one dict that may have a hash that others have, too. Text and bytes hash differently in each process; the hash
of a number or a UUID can be chosen, and 55,000 equal ones, 1 MiB, would keep a worker busy for minutes.
"""

MAX_DECIMAL_EXPONENT = 10_000
"""
How far a Decimal may be from 1, in powers of ten, and the digits that it may have. `Decimal("1e999999999")` has eleven
bytes, and whoever makes an integer of it, or formats it, takes all memory there is.
"""

MAX_CONTAINERS = 500_000
"""
Lists, maps and values of extension types in one message. Each takes a byte on the wire, and 60 to 300 here, and the
time to make it: 16 MiB of empty lists would be 1.2 GB and half a minute. So many are about 130 MB and a third of a
second, and room for a table of as many rows.
"""

MAX_VALUES = 4_000_000
"""Values of any kind in one message: a list of as many numbers is unpacked in a tenth of a second."""

_PER_CONTAINER, _PER_VALUE = 128, 32
_PER_BYTE = 8
"""Bytes that a list, map or the like takes, and each value in it; and what a byte of a message comes to otherwise."""

_FEW = 256 * 1024
"""Bytes below which a message is not worth counting: it may be that many empty lists, which are 16 MB."""

_SHORT_LIST, _FEW_CONTAINERS = 256, 1024
"""
Items of a list or map, and such in all, of what is unpacked before it was seen that it is whole: a file, say, with what
describes it. Room for as many, a thousand lists deep, is 2 MiB.
"""

SHORT = 2048
"""Bytes below which a message is not looked through before it is unpacked: it cannot make us do much in vain."""

_FIRST_PARTS = 64
"""Items of a list or map that are looked at for large texts and bytes."""

# What begins a list, a map or an extension value in msgpack. Such bytes are found within texts and numbers, too.
_BEGINNINGS = bytes([*range(0x80, 0xA0), *range(0xDC, 0xE0), 0xC7, 0xC8, 0xC9, *range(0xD4, 0xD9)])

# A Packer allocates this much and grows it when needed; its own default of 256 KiB suits streams, not messages.
_FIRST_BUFFER = 1024

_idle_packers: list[Packer] = []
"""Packers that are not in use: making one takes as long as packing a message."""

_LARGE = 64 * 1024
"""Bytes of a message above which its packer, whose buffer has grown to that, is not kept."""

_LONGEST_ISO = 64
_LONGEST_DECIMAL = MAX_DECIMAL_EXPONENT + 32
"""Bytes of the longest texts in extension values: the digits, and what stands around them."""
_MAX_PLAIN_DECIMAL = 100
"""Bytes of a Decimal that is as harmless as it looks, unless it has an exponent."""

_TWO_DOUBLES = Struct(">dd")
_THREE_INTS = Struct(">iii")


def encode(value: Any, *, name: str = "value", names: Sequence[str] = (), head: bytes = b"") -> bytes:
    """
    Return `value` as msgpack bytes.

    Arguments:
        value: anything made of None, bool, int, float, str, bytes, list, tuple, set, dict, datetime, date, time,
            timedelta, UUID, Decimal, complex, Enum, NamedTuple, dataclass, pydantic model, or of objects with a
            `__to_bus__` method, which returns any of these.
        name: what an error calls the value.
        names: what an error calls the items of `value`, where it is a list: `["api_name", "kwargs"]`.
        head: what they are to have in front: to join that later would copy a large value once more.

    Raises:
        DeformError: something in it cannot be carried; the message gives the path to it, "kwargs.items[3].when".

    """
    try:
        packer = _idle_packers.pop()  # another thread, or a `__to_bus__` that comes back in here, takes another one
    except IndexError:
        packer = Packer(default=_extend, strict_types=True, buf_size=_FIRST_BUFFER, autoreset=False)
    try:
        packer.pack(value)
        packed: bytes = head + packer.getbuffer() if head else packer.bytes()
    except _PossibleKey:
        return head + _encode_with_keys_checked(value, name, names)
    except Exception as error:  # whatever a `__to_bus__` of the user's raises, too
        raise explain(value, error, name=name, names=names, check=_check_scalar) from error
    if len(packed) < _LARGE:
        packer.reset()
        _idle_packers.append(packer)
    elif len(packed) > _FEW:
        _see_that_it_can_be_decoded(packed, len(head), value, name)
    return packed


def encode_all(values: Sequence[Any], *, names: Sequence[str] = ()) -> list[bytes]:
    """
    Return each of `values` as `encode` does, in two thirds of the time where they are small.

    Raises DeformError if one of them cannot be sent; `encode` says which one.
    """
    pack = Packer(default=_extend, strict_types=True, buf_size=_FIRST_BUFFER).pack
    try:
        packed: list[bytes] = [pack(value) for value in values]
    except Exception:  # one needs a closer look
        return [encode(value, names=names) for value in values]
    if max(map(len, packed), default=0) >= _LARGE:
        return [encode(value, names=names) for value in values]
    return packed


def _see_that_it_can_be_decoded(packed: bytes, start: int, value: Any, name: str) -> None:
    # To count is to unpack. Mostly that so few bytes could begin something is enough. Those of a file, or of another
    # large text or value of bytes, need not even be looked through, which takes longer than all the rest of a call.
    if len(packed) - _within_large(value) <= MAX_CONTAINERS:
        return
    if len(packed) <= MAX_VALUES and len(packed) - len(packed.translate(None, _BEGINNINGS)) <= MAX_CONTAINERS:
        return
    try:
        _unpack(memoryview(packed)[start:])
    except (_TooMuch, ValueError):
        raise DeformError(
            f"{name} cannot be sent in one message: {_TOO_MUCH}. Send it in parts, or as bytes."
        ) from None


def _within_large(value: Any, depth: int = 4) -> int:
    """Return how many bytes, at least, a value has within large texts and bytes, as far as those are seen at once."""
    kind = type(value)
    if kind is bytes or kind is bytearray or kind is str:
        return len(value) if len(value) >= SHORT else 0
    if depth == 0 or (kind is not dict and kind is not list and kind is not tuple):
        return 0
    parts = islice(value.values() if kind is dict else value, _FIRST_PARTS)
    return sum(_within_large(part, depth - 1) for part in parts)


def decode(data: bytes | memoryview, work: Work | None = None) -> Any:
    """
    Return the value that `encode` made these bytes of; extension types as the Python types they stand for.

    `work`, if there is one, counts the parts of a large message.

    Raises:
        ProtocolError: the bytes are no value, or not exactly one.

    """
    try:
        value = _unpack(data, work)
        if work is not None:
            work.within_large = _within_large(value)
        return value
    except Exception as error:  # strangers' bytes: each failure is theirs, whatever class it has
        reason = f"{type(error).__name__}: {error!s:.200}".removesuffix(": ")
        raise ProtocolError(
            f"{memoryview(data).nbytes} bytes from a peer cannot be decoded ({reason}). "
            "They were cut short, or their sender does not speak this version of the protocol."
        ) from error


def _unpack(data: bytes | memoryview, work: Work | None = None) -> Any:
    size = len(data)
    if size > _LARGE:
        with suppress(ValueError, _TooMuch):
            work = work or Work()
            return work.unpack(data, items=_SHORT_LIST, containers=_FEW_CONTAINERS, object_hook=work.add_map)
    if size > SHORT:
        _see_that_it_is_whole(data)
    # A timestamp of msgpack's own (never sent by us) becomes an aware datetime: `timestamp=3`.
    few = size <= _FEW
    work = None if few else work or Work()
    try:
        if work is None:
            return unpackb(data, ext_hook=restore, timestamp=3)
        return work.unpack(data, object_hook=work.add_map)
    except ValueError as error:
        if type(error) is not ValueError or _OTHER_KEY not in str(error):
            raise
    # There are keys other than text and bytes. Those make dicts in Python code, which looks at their hashes.
    if work is None:
        return unpackb(data, ext_hook=restore, timestamp=3, strict_map_key=False, object_pairs_hook=_dict_of)
    return work.unpack(data, strict_map_key=False, object_pairs_hook=work.add_pairs)


_OTHER_KEY = "strict_map_key"
"""What msgpack says of a key other than text and bytes."""


def _see_that_it_is_whole(data: bytes | memoryview) -> None:
    # msgpack makes room for the items of a list before it sees them: 20,000 bytes of lists within lists, each of which
    # says that it has as many items as there are bytes, were 46 MiB and a tenth of a second. To skip makes no room.
    unpacker = Unpacker(max_buffer_size=memoryview(data).nbytes, read_size=1)
    unpacker.feed(data)
    unpacker.skip()


class _TooMuch(ProtocolError):
    """More values than a receiver should have to unpack."""


_TOO_MUCH = f"it is made of more than {MAX_VALUES:,} values, or {MAX_CONTAINERS:,} lists, maps and the like"


class Work:
    """What one large message has made us do: each list, map and extension value is counted as it is made."""

    def __init__(self) -> None:
        self._containers = 0
        self._values = 0
        self._most_containers = MAX_CONTAINERS
        self.within_large = 0
        """Bytes of the message within large texts and bytes."""

    def memory(self, data: bytes) -> int:
        """Return about how many bytes the values take that were decoded from these."""
        if self._containers:
            return len(data) + _PER_CONTAINER * self._containers + _PER_VALUE * self._values
        if (rest := len(data) - self.within_large) <= SHORT:
            return len(data) + (_PER_BYTE + _PER_CONTAINER) * rest
        return _PER_BYTE * len(data) + _PER_CONTAINER * (len(data) - len(data.translate(None, _BEGINNINGS)))

    def unpack(
        self, data: bytes | memoryview, *, items: int = MAX_VALUES, containers: int = MAX_CONTAINERS, **hooks: Any
    ) -> Any:
        self._containers, self._values, self._most_containers = 0, 0, containers
        # For each list room is made before its items are seen, so none may say that it has more than there are bytes.
        most = min(items, memoryview(data).nbytes)
        limits = {"max_array_len": most, "max_map_len": most // 2}
        return unpackb(data, ext_hook=self.add_extension, list_hook=self.add_list, timestamp=3, **limits, **hooks)

    def add_list(self, made: list[Any]) -> list[Any]:
        self._count(len(made))
        return made

    def add_map(self, made: dict[Any, Any]) -> dict[Any, Any]:
        self._count(2 * len(made))
        return made

    def add_pairs(self, pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
        self._count(2 * len(pairs))
        return _dict_of(pairs)

    def add_extension(self, code: int, data: bytes) -> Any:
        self._count(0)
        return restore(code, data)

    def _count(self, values: int) -> None:
        self._containers += 1
        self._values += values
        if self._containers > self._most_containers or self._values > MAX_VALUES:
            raise _TooMuch(_TOO_MUCH)


def _dict_of(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    hashes = {hash(key) for key, _ in pairs}
    if len(pairs) - len(hashes) > MAX_EQUAL_HASHES:
        raise ValueError("a map with keys made to collide")
    return dict(pairs)


class _PossibleKey(Exception):
    """A hashable value, which may be a dict's key, became a list or a dict, which may not."""


def _extend(value: Any) -> Any:
    """Return what msgpack shall pack for a value that it does not know."""
    plain = to_plain(value)
    if type(plain) in (list, dict) and type(value).__hash__ is not None:
        raise _PossibleKey
    return _extension(plain)


def _encode_with_keys_checked(value: Any, name: str, names: Sequence[str]) -> bytes:
    # msgpack packs a list as a key without a word, and nobody could unpack that in Python. To look is to unpack it
    # here; only messages with tuples and the like pay for it.
    def extend(part: Any) -> Any:
        return _extension(to_plain(part))

    try:
        packed: bytes = Packer(default=extend, strict_types=True, buf_size=_FIRST_BUFFER).pack(value)
        unpackb(packed, strict_map_key=False)
    except Exception as error:
        raise explain(value, error, name=name, names=names, check=_check_scalar) from error
    return packed


def _extension(plain: Any) -> Any:
    kind = type(plain)
    if kind not in EXTENSION_TYPES and (kind is not int or -(2**63) <= plain < 2**64):
        return plain
    code, pack = _PACK[kind]
    return ExtType(code, pack(plain))


def _check_scalar(plain: Any) -> None:
    """Raise what packing this plain value alone would raise."""
    if isinstance(plain, str):
        plain.encode()  # a lone surrogate has no UTF-8
    elif not isinstance(plain, (list, dict)):
        _extension(plain)


def restore(code: int, data: bytes) -> Any:
    """Return the value of an extension type. Raises whatever there is to raise."""
    unpack = _UNPACK.get(code)
    if unpack is None:
        raise ValueError(f"unknown extension type {code}")
    return unpack(data)


def _pack_int(value: int) -> bytes:
    size = value.bit_length() // 8 + 1
    if size > MAX_INT_BYTES:
        raise ValueError(f"an integer of {size} bytes is over the limit of {MAX_INT_BYTES}; send it as bytes or text")
    return value.to_bytes(size, "big", signed=True)


def _unpack_int(data: bytes) -> int:
    if not 0 < len(data) <= MAX_INT_BYTES:
        raise ValueError(f"an integer of {len(data)} bytes")
    return int.from_bytes(data, "big", signed=True)


def _pack_text(value: Any) -> bytes:
    return value.isoformat().encode()  # type: ignore[no-any-return]


def _text(data: bytes) -> str:
    if len(data) > _LONGEST_ISO:
        raise ValueError(f"a time of {len(data)} bytes")
    return data.decode("ascii")


def _pack_decimal(value: Decimal) -> bytes:
    _check_decimal(value)
    return str(value).encode()


def _unpack_decimal(data: bytes) -> Decimal:
    if len(data) > _LONGEST_DECIMAL:
        raise ValueError(f"a Decimal of {len(data)} bytes")
    value = Decimal(data.decode("ascii"))
    if len(data) > _MAX_PLAIN_DECIMAL or b"E" in data.upper():
        _check_decimal(value)
    return value


def _check_decimal(value: Decimal) -> None:
    _, digits, exponent = value.as_tuple()
    if len(digits) > MAX_DECIMAL_EXPONENT or (isinstance(exponent, int) and abs(exponent) > MAX_DECIMAL_EXPONENT):
        raise ValueError(
            f"a Decimal of {len(digits)} digits and the exponent {exponent}; {MAX_DECIMAL_EXPONENT} is the most of both"
        )


# Part of the protocol: never give a code a new meaning. Of a time zone only the offset travels, not its name; of a
# moment not its `fold`, which the offset makes needless.
_EXTENSIONS: tuple[tuple[int, type, Callable[[Any], bytes], Callable[[bytes], Any]], ...] = (
    (1, datetime, _pack_text, lambda data: datetime.fromisoformat(_text(data))),
    (2, date, _pack_text, lambda data: date.fromisoformat(_text(data))),
    (3, time, _pack_text, lambda data: time.fromisoformat(_text(data))),
    (
        4,
        timedelta,
        lambda value: _THREE_INTS.pack(value.days, value.seconds, value.microseconds),
        lambda data: timedelta(*_THREE_INTS.unpack(data)),
    ),
    (5, UUID, lambda value: value.bytes, lambda data: UUID(bytes=data)),
    (6, Decimal, _pack_decimal, _unpack_decimal),
    (
        7,
        complex,
        lambda value: _TWO_DOUBLES.pack(value.real, value.imag),
        lambda data: complex(*_TWO_DOUBLES.unpack(data)),
    ),
    (8, int, _pack_int, _unpack_int),
)

_PACK = {kind: (code, pack) for code, kind, pack, _ in _EXTENSIONS}
_UNPACK = {code: unpack for code, _, _, unpack in _EXTENSIONS}
