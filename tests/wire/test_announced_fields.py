"""The checks of an announcement's fields."""

from __future__ import annotations

from typing import Any

import pytest

from lightbus.exceptions import InvalidConfiguration, ProtocolError
from lightbus.wire.announced_fields import (
    MAX_APIS,
    as_tuple,
    check_endpoints,
    check_instance,
    check_int,
    check_name,
    check_names,
    check_text,
    reading,
)


def test_valid_fields_pass() -> None:
    """At their bounds, too."""
    check_text("name", "é" * 5, 10)
    check_text("digest", "", 10, empty=True)
    check_instance("4f2a00112233445d")
    check_name("name", "a" * 128)
    check_names("names", tuple(map(str, range(MAX_APIS))))
    for value in (0, 5):
        check_int("number", value, 0, 5)
    check_endpoints(0, 0, ())
    check_endpoints(1, 65535, ("192.0.2.7", "2001:db8::7"))
    assert as_tuple("names", ["a"]) == ("a",)


@pytest.mark.parametrize(
    ("value", "message"),
    [(b"a", "of type bytes"), ("", "missing"), ("\t", "cannot be printed"), ("é" * 6, "longer than 10 bytes")],
)
def test_invalid_text_is_refused_with_the_reason(value: Any, message: str) -> None:
    """The error names the field."""
    with pytest.raises(InvalidConfiguration, match=f"the name .*{message}"):
        check_text("name", value, 10)


@pytest.mark.parametrize("value", [True, 1.0, "1", None, -1, 6])
def test_numbers_must_be_in_range(value: Any) -> None:
    """A bool is not a number."""
    with pytest.raises(InvalidConfiguration, match="not a number from 0 to 5"):
        check_int("number", value, 0, 5)


@pytest.mark.parametrize(
    "addresses", [(), ("0.0.0.0",), ("ff02::fb",), ("192.0.2.07",), tuple(f"192.0.2.{n}" for n in range(1, 18))]
)
def test_ports_need_addresses_of_single_hosts(addresses: tuple[str, ...]) -> None:
    """And at most as many as a peer may have."""
    with pytest.raises(InvalidConfiguration):
        check_endpoints(5000, 5001, addresses)


def test_received_value_raises_protocol_error() -> None:
    """The same check is a ProtocolError if a peer sent the value."""
    with pytest.raises(ProtocolError, match="the record cannot be read: the name is missing"), reading("the record"):
        check_text("name", "", 10)
    for value, message in (("abc", "of type str, not a list"), (["a"] * (MAX_APIS + 1), "at most 1024 are read")):
        with pytest.raises(ProtocolError, match=message):
            as_tuple("names", value)
