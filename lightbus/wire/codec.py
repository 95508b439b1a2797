"""Payload values <-> msgpack: the extension types and the limits of size and depth are defined here only.

`plain.py` decides how a Python object is represented on the bus. Every failure of `encode` is a DeformError, every
failure of `decode` a ProtocolError.
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
quadratic time: no peer may send one that we could not even log.
"""

MAX_EQUAL_HASHES = 64
"""
Keys of one dict that may share their hash with other keys. Text and bytes hash differently in each process; the hash
of a number or a UUID can be chosen, and 55,000 equal ones, 1 MiB, would keep a worker busy for minutes.
"""

MAX_DECIMAL_EXPONENT = 10_000
"""
The largest exponent of a Decimal, positive or negative, and the most digits. `Decimal("1e999999999")` has eleven bytes,
and converting it to an integer, or formatting it, takes all memory.
"""

MAX_CONTAINERS = 500_000
"""
Most lists, maps and extension values in one message. Each takes one byte on the wire, and 60 to 300 bytes and some
time here: 16 MiB of empty lists would be 1.2 GB and half a minute. This many are about 130 MB and a third of a
second, and enough for a table of as many rows.
"""

MAX_VALUES = 4_000_000
"""Most values of any kind in one message: a list of as many numbers is unpacked in a tenth of a second."""

_PER_CONTAINER, _PER_VALUE = 128, 32
_PER_BYTE = 8
"""Bytes of memory per list, map or extension value, and per value in it; and per byte of a message otherwise."""

_FEW = 256 * 1024
"""Bytes up to which a message is not counted: even if all of them are empty lists, these take 16 MB."""

_SHORT_LIST, _FEW_CONTAINERS = 256, 1024
"""
Most items of a list or map, and most lists and maps, for a large message that is unpacked without checking first that
it is complete: a file with its description, for example. Memory for this many, a thousand lists deep, is 2 MiB.
"""

SHORT = 2048
"""Bytes up to which a message is unpacked without checking first that it is complete: it cannot waste much."""

_FIRST_PARTS = 64
"""Items of a list or map that are searched for large texts and bytes."""

# The first bytes of lists, maps and extension values in msgpack. Texts and numbers may contain such bytes, too.
_BEGINNINGS = bytes([*range(0x80, 0xA0), *range(0xDC, 0xE0), 0xC7, 0xC8, 0xC9, *range(0xD4, 0xD9)])

# A Packer allocates this much and grows it when needed; its own default of 256 KiB suits streams, not messages.
_FIRST_BUFFER = 1024

_idle_packers: list[Packer] = []
"""Packers that are not in use: creating one takes as long as packing a message."""

_LARGE = 64 * 1024
"""Bytes of a message above which its packer, with its grown buffer, is not kept."""

_LONGEST_ISO = 64
_LONGEST_DECIMAL = MAX_DECIMAL_EXPONENT + 32
"""Bytes of the longest texts in extension values: the digits, and signs and separators."""
_MAX_PLAIN_DECIMAL = 100
"""Bytes up to which a Decimal without an exponent is not checked."""

_TWO_DOUBLES = Struct(">dd")
_THREE_INTS = Struct(">iii")


def encode(value: Any, *, name: str = "value", names: Sequence[str] = (), head: bytes = b"") -> bytes:
    """
    Return `value` as msgpack bytes.

    Arguments:
        value: anything made of None, bool, int, float, str, bytes, list, tuple, set, dict, datetime, date, time,
            timedelta, UUID, Decimal, complex, Enum, NamedTuple, dataclass, pydantic model, or of objects with a
            `__to_bus__` method, which returns any of these.
        name: the name of the value in errors.
        names: the names of its items in errors, if `value` is a list: `["api_name", "kwargs"]`.
        head: bytes to put in front: adding them later would copy a large value once more.

    Raises:
        DeformError: a part of it cannot be sent; the message gives the path to that part, "kwargs.items[3].when".

    """
    try:
        packer = _idle_packers.pop()  # another thread, or a `__to_bus__` that calls `encode`, takes another one
    except IndexError:
        packer = Packer(default=_extend, strict_types=True, buf_size=_FIRST_BUFFER, autoreset=False)
    try:
        packer.pack(value)
        packed: bytes = head + packer.getbuffer() if head else packer.bytes()
    except _PossibleKey:
        return head + _encode_with_keys_checked(value, name, names)
    except Exception as error:  # also the error of a user's `__to_bus__`
        raise explain(value, error, name=name, names=names, check=_check_scalar) from error
    if len(packed) < _LARGE:
        packer.reset()
        _idle_packers.append(packer)
    elif len(packed) > _FEW:
        _check_decodable(packed, len(head), value, name)
    return packed


def encode_all(values: Sequence[Any], *, names: Sequence[str] = ()) -> list[bytes]:
    """
    Encode each of `values` like `encode`, in two thirds of the time if they are small.

    Raises DeformError if one of them cannot be sent; `encode` says which one.
    """
    pack = Packer(default=_extend, strict_types=True, buf_size=_FIRST_BUFFER).pack
    try:
        packed: list[bytes] = [pack(value) for value in values]
    except Exception:  # `encode` finds and reports the one that fails
        return [encode(value, names=names) for value in values]
    if max(map(len, packed), default=0) >= _LARGE:
        return [encode(value, names=names) for value in values]
    return packed


def _check_decodable(packed: bytes, start: int, value: Any, name: str) -> None:
    # Exact counting means unpacking. Mostly it is enough that few bytes could be the first of a container. The bytes
    # of a file, or of another large text or bytes value, need not even be searched: that would take longer than all
    # the rest of a call.
    if len(packed) - _within_large(value) <= MAX_CONTAINERS:
        return
    if len(packed) <= MAX_VALUES and len(packed) - len(packed.translate(None, _BEGINNINGS)) <= MAX_CONTAINERS:
        return
    try:
        _unpack(memoryview(packed)[start:])
    except (_TooManyValues, ValueError):
        raise DeformError(
            f"{name} cannot be sent in one message: {_TOO_MANY_VALUES}. Send it in parts, or as bytes."
        ) from None


def _within_large(value: Any, depth: int = 4) -> int:
    """Return a lower bound of the bytes of a value in large texts and bytes, by a quick search."""
    kind = type(value)
    if kind is bytes or kind is bytearray or kind is str:
        return len(value) if len(value) >= SHORT else 0
    if depth == 0 or (kind is not dict and kind is not list and kind is not tuple):
        return 0
    parts = islice(value.values() if kind is dict else value, _FIRST_PARTS)
    return sum(_within_large(part, depth - 1) for part in parts)


def decode(data: bytes | memoryview, work: Work | None = None) -> Any:
    """
    Return the value that was encoded, with extension values as their Python types.

    `work`, if given, counts the parts of a large message.

    Raises:
        ProtocolError: the bytes are not exactly one value.

    """
    try:
        value = _unpack(data, work)
        if work is not None:
            work.within_large = _within_large(value)
        return value
    except Exception as error:  # any error is caused by the bytes of a peer
        reason = f"{type(error).__name__}: {error!s:.200}".removesuffix(": ")
        raise ProtocolError(
            f"{memoryview(data).nbytes} bytes from a peer cannot be decoded ({reason}). "
            "They were cut short, or their sender does not speak this version of the protocol."
        ) from error


def _unpack(data: bytes | memoryview, work: Work | None = None) -> Any:
    size = len(data)
    if size > _LARGE:
        with suppress(ValueError, _TooManyValues):
            work = work or Work()
            return work.unpack(data, items=_SHORT_LIST, containers=_FEW_CONTAINERS, object_hook=work.add_map)
    if size > SHORT:
        _check_complete(data)
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
    # There are keys other than text and bytes: build the dicts in Python code, which checks the hashes of keys.
    if work is None:
        return unpackb(data, ext_hook=restore, timestamp=3, strict_map_key=False, object_pairs_hook=_dict_of)
    return work.unpack(data, strict_map_key=False, object_pairs_hook=work.add_pairs)


_OTHER_KEY = "strict_map_key"
"""A part of msgpack's error for a key other than text and bytes."""


def _check_complete(data: bytes | memoryview) -> None:
    # msgpack allocates memory for a list before it reads the items: 20,000 bytes of nested lists, each of which claims
    # as many items as there are bytes, took 46 MiB and a tenth of a second. Skipping allocates nothing.
    unpacker = Unpacker(max_buffer_size=memoryview(data).nbytes, read_size=1)
    unpacker.feed(data)
    unpacker.skip()


class _TooManyValues(ProtocolError):
    """A message has more values than a receiver should have to unpack."""


_TOO_MANY_VALUES = f"it is made of more than {MAX_VALUES:,} values, or {MAX_CONTAINERS:,} lists, maps and the like"


class Work:
    """The work for one large message: each list, map and extension value is counted when it is created."""

    def __init__(self) -> None:
        self._containers = 0
        self._values = 0
        self._most_containers = MAX_CONTAINERS
        self.within_large = 0
        """Bytes of the message in large texts and bytes."""

    def memory(self, data: bytes) -> int:
        """Return about how many bytes of memory the decoded values take."""
        if self._containers:
            return len(data) + _PER_CONTAINER * self._containers + _PER_VALUE * self._values
        if (rest := len(data) - self.within_large) <= SHORT:
            return len(data) + (_PER_BYTE + _PER_CONTAINER) * rest
        return _PER_BYTE * len(data) + _PER_CONTAINER * (len(data) - len(data.translate(None, _BEGINNINGS)))

    def unpack(
        self, data: bytes | memoryview, *, items: int = MAX_VALUES, containers: int = MAX_CONTAINERS, **hooks: Any
    ) -> Any:
        self._containers, self._values, self._most_containers = 0, 0, containers
        # Memory for a list is allocated before its items are read: no list may claim more items than there are bytes.
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
            raise _TooManyValues(_TOO_MANY_VALUES)


def _dict_of(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    hashes = {hash(key) for key, _ in pairs}
    if len(pairs) - len(hashes) > MAX_EQUAL_HASHES:
        raise ValueError("a map with keys made to collide")
    return dict(pairs)


class _PossibleKey(Exception):
    """A hashable value, which may be a dict's key, was converted to a list or a dict, which may not."""


def _extend(value: Any) -> Any:
    """Return the value to pack for a value that msgpack does not know."""
    plain = to_plain(value)
    if type(plain) in (list, dict) and type(value).__hash__ is not None:
        raise _PossibleKey
    return _extension(plain)


def _encode_with_keys_checked(value: Any, name: str, names: Sequence[str]) -> bytes:
    # msgpack packs a list as a key without an error, and Python cannot unpack that. So unpack it here to check; only
    # messages with tuples and the like pay for it.
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
    """Raise the error that packing this plain value alone would raise."""
    if isinstance(plain, str):
        plain.encode()  # a lone surrogate has no UTF-8
    elif not isinstance(plain, (list, dict)):
        _extension(plain)


def restore(code: int, data: bytes) -> Any:
    """Return the value of an extension type. Raises any exception if the data is invalid."""
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


# Part of the protocol: never give a code a new meaning. Of a time zone only the offset is sent, not its name; the
# `fold` of a moment is not sent, because the offset makes it needless.
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
