"""Payload values <-> msgpack: the extension types and the limits of size and depth live here only.

What a Python object is on the bus is decided in `plain.py`. Every failure of `encode` is a DeformError, every failure
of `decode` a ProtocolError.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from struct import Struct
from typing import Any
from uuid import UUID

from msgpack import ExtType, Packer, unpackb

from ..exceptions import ProtocolError
from .plain import EXTENSION_TYPES, MAX_DEPTH, explain, json_form, to_plain

__all__ = ["MAX_DEPTH", "MAX_EQUAL_HASHES", "MAX_INT_BYTES", "decode", "encode", "json_form"]

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

# A Packer allocates this much and grows it when needed; its own default of 256 KiB suits streams, not messages.
_FIRST_BUFFER = 1024

_idle_packers: list[Packer] = []
"""Packers that nobody uses at the moment: making one takes as long as packing a message."""

_LARGE = 64 * 1024
"""Bytes of a message above which its packer, whose buffer has grown to that, is not kept."""

_TWO_DOUBLES = Struct(">dd")
_THREE_INTS = Struct(">iii")


def encode(value: Any, *, name: str = "value", names: Sequence[str] = ()) -> bytes:
    """
    Return `value` as msgpack bytes.

    Arguments:
        value: anything made of None, bool, int, float, str, bytes, list, tuple, set, dict, datetime, date, time,
            timedelta, UUID, Decimal, complex, Enum, NamedTuple, dataclass, pydantic model, or of objects with a
            `__to_bus__` method, which returns any of these.
        name: what an error calls the value.
        names: what an error calls the items of `value`, where it is a list: `["api_name", "kwargs"]`.

    Raises:
        DeformError: something in it cannot be carried; the message gives the path to it, "kwargs.items[3].when".

    """
    try:
        packer = _idle_packers.pop()  # another thread, or a `__to_bus__` that comes back in here, takes another one
    except IndexError:
        packer = Packer(default=_extend, strict_types=True, buf_size=_FIRST_BUFFER)
    try:
        packed: bytes = packer.pack(value)
    except _PossibleKey:
        return _encode_with_keys_checked(value, name, names)
    except Exception as error:  # whatever a `__to_bus__` of the user's raises, too
        raise explain(value, error, name=name, names=names, check=_check_scalar) from error
    if len(packed) < _LARGE:
        _idle_packers.append(packer)
    return packed


def decode(data: bytes | memoryview) -> Any:
    """
    Return the value that `encode` made these bytes of; extension types as the Python types they stand for.

    Raises:
        ProtocolError: the bytes are no value, or not exactly one.

    """
    try:
        return _unpack(data)
    except Exception as error:  # strangers' bytes: each failure is theirs, whatever class it has
        reason = f"{type(error).__name__}: {error}".removesuffix(": ")
        raise ProtocolError(
            f"{memoryview(data).nbytes} bytes from a peer cannot be decoded ({reason}). "
            "They were cut short, or their sender does not speak this version of the protocol."
        ) from error


def _unpack(data: bytes | memoryview) -> Any:
    # A timestamp of msgpack's own (never sent by us) becomes an aware datetime: `timestamp=3`.
    try:
        return unpackb(data, ext_hook=_restore, timestamp=3)
    except ValueError as error:
        if type(error) is not ValueError:  # a subclass: broken in any case
            raise
    # Perhaps there are keys other than text and bytes. Those make dicts in Python code, which looks at their hashes.
    return unpackb(data, ext_hook=_restore, timestamp=3, strict_map_key=False, object_pairs_hook=_dict_of)


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


def _restore(code: int, data: bytes) -> Any:
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
    return (str(value) if isinstance(value, Decimal) else value.isoformat()).encode()


def _text(data: bytes) -> str:
    return data.decode("ascii")


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
    (6, Decimal, _pack_text, lambda data: Decimal(_text(data))),
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
