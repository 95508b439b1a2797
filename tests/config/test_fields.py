from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import SchemaValidator, ValidationError

from lightbus.config import fields
from lightbus.config.sections import ValueKind


def read(kind: ValueKind, value: Any) -> Any:
    return SchemaValidator(kind.core).validate_python(value)


def refusal(kind: ValueKind, value: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        read(kind, value)
    return caught.value.errors()[0]["msg"]


@pytest.mark.parametrize(
    "written",
    [
        "10.0.0.7:5570",
        "tcp://10.0.0.7:5570",
        "auth.example.org:1",
        "[::1]:65535",
        "[fe80::1%eth0]:5570",
        "ipc:///run/lightbus/auth",
        "srv+lightbus://auth.example",
        "srv+lightbus://_rpc._tcp.auth.example.",
    ],
)
def test_forms_of_a_peer(written: str) -> None:
    """A peer stays as it is written, in each form: what endpoint that is, the transport says."""
    assert read(fields.PEERS, [written]) == [written]


@pytest.mark.parametrize(
    "written",
    [
        "auth",
        "auth:",
        "auth:0",
        "auth:65536",
        "auth:http",
        ":5570",
        "::1:5570",
        "au th:5570",
        "udp://auth:5570",
        "service@auth:5570",
        "ipc://relative",
        "ipc:///",
        "://10.0.0.7:5570",
        "http://10.0.0.7:5570",
        "tcp://tcp://10.0.0.7:5570",
        "ipc:///a\nb",
        "",
    ],
)
def test_invalid_peer_is_refused(written: str) -> None:
    """Anything else is refused, with the valid forms."""
    assert "must be host:port (as in 10.0.0.7:5570), tcp://host:port or ipc:///path" in refusal(fields.PEERS, [written])


@pytest.mark.parametrize("name", ["", "auth:5570", "auth/x", "a..b", "-", "auth example", "10.0.0.7:1"])
def test_invalid_record_name_is_refused(name: str) -> None:
    """A record contains the ports itself; the error shows a valid name."""
    assert "must be srv+lightbus://name, without a port" in refusal(fields.PEERS, [f"srv+lightbus://{name}"])


def test_records_need_a_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without dnspython a record is refused where it is written, with what to install."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pip install 'lightbus[srv]'" in refusal(fields.PEERS, ["srv+lightbus://auth.example"])


@given(st.text())
def test_any_text_is_a_peer_or_refused(written: str) -> None:
    """Reading a peer ends in an endpoint, which reads as itself, or in a refusal: never in another error."""
    try:
        endpoints = read(fields.PEERS, [written])
    except ValidationError:
        return
    assert read(fields.PEERS, endpoints) == endpoints


@pytest.mark.parametrize("written", ["eth0, 127.0.0.1,", ["eth0", "127.0.0.1"], ("eth0", "127.0.0.1")])
def test_list_may_be_written_with_commas(written: Any) -> None:
    """A string with commas is a list: an environment variable knows no other way."""
    assert read(fields.ADDRESSES, written) == ["eth0", "127.0.0.1"]


@pytest.mark.parametrize("written", [[""], ["eth 0"], [" eth0"]])
def test_interface_has_no_blanks(written: list[str]) -> None:
    """An interface that cannot exist is refused when it is read, not when it is not found."""
    assert "must be the name or the address of an interface" in refusal(fields.ADDRESSES, written)


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (fields.SECONDS, 2, 2.0),
        (fields.SECONDS, "0.5", 0.5),
        (fields.WAIT, 0, 0.0),
        (fields.COUNT, 0, 0),
        (fields.LIMIT, "10", 10),
        (fields.PORT, 65535, 65535),
    ],
)
def test_number_within_bounds(kind: ValueKind, value: Any, expected: float) -> None:
    """A number is taken as it is, or out of a string."""
    assert read(kind, value) == expected


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (fields.SECONDS, 0),
        (fields.SECONDS, float("inf")),
        (fields.SECONDS, float("nan")),
        (fields.WAIT, -0.1),
        (fields.COUNT, -1),
        (fields.COUNT, 1.5),
        (fields.LIMIT, 0),
        (fields.MESSAGE_SIZE, 1023),
        (fields.PORT, 65536),
        (fields.PORT, -1),
    ],
)
def test_number_out_of_bounds(kind: ValueKind, value: Any) -> None:
    """A number that makes no sense for its kind is refused."""
    refusal(kind, value)


@pytest.mark.parametrize("kind", [fields.SECONDS, fields.WAIT, fields.COUNT, fields.LIMIT, fields.PORT])
def test_yes_is_no_number(kind: ValueKind) -> None:
    """`rpc_timeout: yes` does not become one second."""
    assert refusal(kind, True) == "Value error, must be a number, not true"


@pytest.mark.parametrize("written", ["", "-a", "a/b", "a b", "ä", "a" * 64, ".."])
def test_bus_name_is_plain(written: str) -> None:
    """A bus name that could not be part of a path or an announcement is refused."""
    assert "must be 1 to 63 of A-Z a-z 0-9 _ . -" in refusal(fields.BUS_NAME, written)


def test_service_name_is_checked() -> None:
    """A name with an unknown placeholder is refused when it is read."""
    assert "has an unknown placeholder {host}" in refusal(fields.NAME, "{host}")
    assert read(fields.NAME, "auth-{hostname}") == "auth-{hostname}"


def test_directory_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory keeps its place when the process changes its own; `~` is the home directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/sally")
    assert read(fields.DIRECTORY, "data") == tmp_path / "data"
    assert read(fields.DIRECTORY, "~/data") == Path("/home/sally/data")


def test_secret_is_not_shown() -> None:
    """A secret is only returned on request, and is equal to another of the same text."""
    secret = fields.Secret("sesame")
    assert "sesame" not in f"{secret} {secret!r} {[secret]}"
    assert secret.get_secret_value() == "sesame"
    assert {secret, fields.Secret("sesame")} == {secret}
    assert secret != fields.Secret("other")
    assert secret != "sesame"
