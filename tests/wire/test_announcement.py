from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightbus.exceptions import InvalidConfiguration, ProtocolError
from lightbus.wire.announced_fields import MAX_ADDRESSES, MAX_APIS
from lightbus.wire.announcement import MAX_FOREIGN_TXT_BYTES, MAX_TXT_BYTES, Announcement, new_instance_id, shorten
from lightbus.wire.api_info import ApiInfo, compute_digest

INSTANCE = "4f2a00112233445d"

AUTH = ApiInfo(
    name="auth",
    procedures=("check_password", "create_user"),
    events=("user_registered", "seen"),
    version=2,
    digest="abc",
    best_effort=("seen",),
)


def announcement(**fields: Any) -> Announcement:
    """Return a peer in mode host, with these fields changed."""
    return Announcement(
        **{
            "bus": "test",
            "instance": INSTANCE,
            "service": "auth-service",
            "process": "auth-service-1",
            "host": "web-1",
            "api_names": ("auth",),
            **fields,
        }
    )


def tcp(**fields: Any) -> Announcement:
    """Return a peer with TCP ports."""
    return announcement(**{"addresses": ("192.0.2.7", "2001:db8::7"), "rpc_port": 5000, "event_port": 5001, **fields})


def heard(sent: Announcement) -> Announcement:
    """Return the announcement that a peer reads from the TXT record of `sent`."""
    return Announcement.from_txt(sent.to_txt(), port=sent.rpc_port, addresses=sent.addresses or ("127.0.0.1",))


def text(limit: int) -> st.SearchStrategy[str]:
    """Return any text that can be announced in `limit` bytes."""
    characters = st.characters(exclude_categories=["C", "Z"], include_characters=" ")
    return st.text(characters, min_size=1, max_size=limit).filter(
        lambda t: t.isprintable() and len(t.encode()) <= limit
    )


NAMES = st.text("abcdefghijklmnopqrstuvwxyz_.é", min_size=1, max_size=30)
NAME_LISTS = st.lists(NAMES, unique=True, max_size=8).map(tuple)


@st.composite
def api_infos(draw: st.DrawFn) -> ApiInfo:
    events = draw(NAME_LISTS)
    return ApiInfo(
        name=draw(NAMES),
        procedures=draw(NAME_LISTS),
        events=events,
        version=draw(st.integers(0, 2**31 - 1)),
        internal=draw(st.booleans()),
        digest=draw(st.text("0123456789abcdef", max_size=48)),
        best_effort=tuple(draw(st.sets(st.sampled_from(events)))) if events else (),
    )


@st.composite
def announcements(draw: st.DrawFn) -> Announcement:
    fields: dict[str, Any] = {
        "bus": draw(text(64)),
        "instance": draw(st.text("0123456789abcdef", min_size=16, max_size=16)),
        "service": draw(text(128)),
        "process": draw(text(64)),
        "host": draw(text(64)),
        "fingerprint": draw(st.text("0123456789abcdef", max_size=48)),
        "digest": draw(st.sampled_from(["", "0123456789abcdef"])),
        "api_names": draw(st.none() | NAME_LISTS),
    }
    if draw(st.booleans()):
        addresses = st.lists(st.integers(1 << 24, (224 << 24) - 1), min_size=1, max_size=MAX_ADDRESSES, unique=True)
        fields["addresses"] = tuple(".".join(str(b) for b in a.to_bytes(4, "big")) for a in draw(addresses))
        fields["rpc_port"], fields["event_port"] = draw(st.integers(1, 65535)), draw(st.integers(1, 65535))
    if draw(st.booleans()):
        fields["apis"] = tuple(draw(st.lists(api_infos(), max_size=4, unique_by=lambda api: api.name)))
        fields["api_names"] = None
    return Announcement(**fields)


@given(announcements())
def test_txt_round_trip(sent: Announcement) -> None:
    """Reading a TXT record gives the announcement: only the process may be shortened, and the API names left out."""
    got = heard(sent)

    assert got.process == sent.process or got.process.endswith("~")
    assert got.api_names in (None, sent.api_names)
    assert got == replace(sent, process=got.process, api_names=got.api_names, apis=None)


@given(announcements())
def test_txt_stays_within_its_limits(sent: Announcement) -> None:
    """No pair of the TXT record is over 255 bytes, and the whole is not over 400."""
    pairs = [key + b"=" + value for key, value in sent.to_txt().items()]

    assert max(map(len, pairs)) <= 255
    assert sum(1 + len(pair) for pair in pairs) <= MAX_TXT_BYTES


@given(announcements())
def test_wire_round_trip(sent: Announcement) -> None:
    """A HELLO or INFO reply carries the whole announcement."""
    assert Announcement.from_wire(sent.to_wire()) == sent


TXT_KEYS = [*tcp(fingerprint="f", digest="d").to_txt(), b"x"]


def test_unchanged_announcement_is_returned_itself() -> None:
    """Only if the value is equal; anything else is read and checked."""
    known = announcement(apis=(AUTH,))
    assert Announcement.from_wire(known.to_wire(), known) is known
    other = {**known.to_wire(), "svc": "other"}
    assert Announcement.from_wire(other, known).service == "other"
    wrong_fields: list[dict[str, Any]] = [{"svc": 1}, {"apis": None, "names": "x"}, {"v": Decimal("sNaN")}]
    for wrong in (None, [], *({**known.to_wire(), **fields} for fields in wrong_fields)):
        with pytest.raises(ProtocolError):
            Announcement.from_wire(wrong, known)


@given(st.dictionaries(st.sampled_from(TXT_KEYS), st.binary(max_size=40) | st.none()))
def test_any_txt_is_read_or_refused(changed: dict[bytes, bytes | None]) -> None:
    """Any TXT record gives a ProtocolError, or an announcement that can be passed on."""
    try:
        got = Announcement.from_txt({**tcp().to_txt(), **changed}, port=5000, addresses=("192.0.2.7",))
    except ProtocolError:
        return
    assert heard(got) == got


PLAIN_VALUES: st.SearchStrategy[object] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
)


@given(PLAIN_VALUES, st.sampled_from([None, *announcement(apis=(AUTH,)).to_wire()]))
def test_any_value_is_read_or_refused(value: object, key: str | None) -> None:
    """Any value from a peer, as a whole or in one field, gives a ProtocolError or can be passed on."""
    try:
        got = Announcement.from_wire(value if key is None else {**announcement(apis=(AUTH,)).to_wire(), key: value})
    except ProtocolError:
        return
    assert Announcement.from_wire(got.to_wire()) == got


def test_str_names_service_instance_and_host() -> None:
    """In a log line a peer is shown by its service, the first digits of its instance and its host."""
    assert str(announcement()) == "auth-service 4f2a… on host web-1"
    assert str(AUTH) == "auth (2 procedures, 2 events)"


def test_txt_record_has_the_keys_of_the_protocol() -> None:
    """The TXT record has the keys of docs/protocol.md, and leaves out empty ones."""
    assert tcp(fingerprint="f1", digest="d1").to_txt() == {
        b"v": b"1",
        b"bus": b"test",
        b"id": INSTANCE.encode(),
        b"svc": b"auth-service",
        b"proc": b"auth-service-1",
        b"host": b"web-1",
        b"pub": b"5001",
        b"fp": b"f1",
        b"h": b"d1",
        b"apis": b"auth",
    }


def test_longest_names_shorten_only_the_process() -> None:
    """With every field at its limit the record is just full: only the process name is cut."""
    longest = tcp(
        bus="b" * 64,
        service="é" * 64,
        process="p" * 64,
        host="h" * 64,
        fingerprint="f" * 48,
        digest="d" * 16,
        event_port=65535,
        protocol=255,
    )

    txt = longest.to_txt()

    assert sum(1 + len(key) + 1 + len(value) for key, value in txt.items()) == MAX_TXT_BYTES
    assert txt[b"proc"].startswith(b"ppp")
    assert heard(longest) == replace(longest, process=txt[b"proc"].decode(), api_names=None)


def test_mode_host_announces_no_address() -> None:
    """A record without ports is a peer in mode host: the address that DNS requires is not used."""
    got = Announcement.from_txt(announcement().to_txt(), port=0, addresses=("127.0.0.1",))

    assert got.on_host_only
    assert got.addresses == ()


def test_api_names_are_left_out_when_they_do_not_fit() -> None:
    """With more API names than a pair holds, the peer is asked for the names; without any APIs, that is known."""
    many = tuple(f"api_number_{number}" for number in range(30))

    assert heard(announcement(api_names=many)).api_names is None
    assert heard(announcement(api_names=())).api_names == ()


def test_apis_determine_names_and_digest() -> None:
    """Given its APIs, an announcement has their names and their digest."""
    made = announcement(api_names=None, apis=(AUTH,))

    assert made.api_names == ("auth",)
    assert made.digest == compute_digest((AUTH,))


def test_unknown_keys_are_skipped() -> None:
    """Keys of a later version do not prevent reading the rest."""
    wire = announcement(api_names=None, apis=(AUTH,)).to_wire()
    wire["apis"][0].append("later")

    assert Announcement.from_wire({**wire, "later": 1}) == announcement(api_names=None, apis=(AUTH,))
    assert heard(announcement()) == Announcement.from_txt(
        {**announcement().to_txt(), b"later": b"1", b"flag": None}, port=0, addresses=()
    )


def test_directory_of_mode_host_is_announced() -> None:
    """Over a connection always, in a TXT record if it fits."""
    told = announcement(directory="/run/lb")
    assert Announcement.from_wire(told.to_wire()).directory == "/run/lb"
    assert heard(told).directory == "/run/lb"
    long = announcement(directory="/" + "d" * 106, service="s" * 128, process="p" * 60, bus="b" * 64)
    assert heard(long).directory == ""
    with pytest.raises(InvalidConfiguration, match="directory of the sockets"):
        announcement(directory="/" + "d" * 107)


def test_instance_ids_are_new_each_time() -> None:
    """Two instance ids differ, and each can be announced."""
    first, second = new_instance_id(), new_instance_id()

    assert first != second
    assert announcement(instance=first).instance == first


@pytest.mark.parametrize(
    ("given", "limit", "expected"),
    [("short", 5, "short"), ("longer", 5, "long~"), ("longer", 1, "~"), ("éé", 4, "éé"), ("éééé", 4, "é~")],
)
def test_name_is_shortened_between_characters(given: str, limit: int, expected: str) -> None:
    """A name is cut between characters, and marked as cut."""
    assert shorten(given, limit) == expected


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"bus": ""}, "the bus name is missing"),
        ({"bus": 1}, "the bus name is of type int, not text"),
        ({"service": "a\0b"}, "the service name 'a\\x00b' contains characters that cannot be printed"),
        ({"process": "a\nb"}, "the process name"),
        ({"host": "h" * 65}, "is longer than 64 bytes; choose a shorter one"),
        ({"service": "é" * 65}, "is longer than 128 bytes"),
        ({"host": "\ud800"}, "characters that cannot be printed"),
        ({"instance": "4F2A001122334455"}, "is not 16 lowercase hexadecimal digits"),
        ({"instance": "../../etc/passwd"}, "is not 16 lowercase hexadecimal digits"),
        ({"protocol": 0}, "the protocol version is 0"),
        ({"rpc_port": 70000}, "the port for calls is 70000"),
        ({"rpc_port": True}, "the port for calls is True"),
        ({"rpc_port": 5000}, "do not go with 0 addresses"),
        ({"addresses": ("192.0.2.7",)}, "do not go with 1 addresses"),
        ({"addresses": ("192.0.2.7",), "rpc_port": 5000}, "do not go with 1 addresses"),
        ({"api_names": ("a", "a")}, "more than once among the API names"),
        ({"api_names": ("a b",)}, "contains a space or a comma"),
        ({"api_names": tuple(map(str, range(MAX_APIS + 1)))}, "there are 1025 API names; at most 1024"),
        ({"api_names": ("other",), "apis": (AUTH,)}, "the API names differ"),
        ({"digest": "d" * 17}, "the digest of the API set"),
    ],
)
def test_invalid_announcement_is_not_created(fields: dict[str, Any], message: str) -> None:
    """The message names the field."""
    with pytest.raises(InvalidConfiguration) as raised:
        announcement(**fields)

    assert message in str(raised.value)


@pytest.mark.parametrize(
    "address",
    ["0.0.0.0", "::", "224.0.0.251", "ff02::fb", "255.255.255.255", "host.local", "1.2.3", 7, "fe80::1%eth0\n\x1b[2J"],
)
def test_address_must_be_connectable(address: Any) -> None:
    """Only the address of a single host: no name, no "any", no multicast group, no zone, which may be any text."""
    with pytest.raises(InvalidConfiguration, match="the address"):
        tcp(addresses=(address,))


def _with(**changed: bytes | None) -> Callable[[dict[bytes, bytes]], dict[bytes, bytes | None]]:
    return lambda txt: {**txt, **{key.encode(): value for key, value in changed.items()}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda _: {}, "the value of 'v' in a TXT record is b'', not a number"),
        (_with(id=None), "the instance id ''"),
        (_with(svc=b"\xff"), "the value of 'svc' in a TXT record is not UTF-8"),
        (_with(pub=b"5001x"), "the value of 'pub' in a TXT record is b'5001x', not a number"),
        (_with(pub=b"123456"), "not a number"),
        (_with(pub=b"0"), "do not go with"),
        (_with(apis=b"a,,b"), "name among the API names is missing"),
        (_with(x=b"x" * MAX_FOREIGN_TXT_BYTES), "at most 1024 are read"),
    ],
)
def test_malformed_txt_is_refused(
    change: Callable[[dict[bytes, bytes]], dict[bytes, bytes | None]], message: str
) -> None:
    """A TXT record that is no valid announcement is refused with the reason."""
    with pytest.raises(ProtocolError) as raised:
        Announcement.from_txt(change(tcp().to_txt()), port=5000, addresses=("192.0.2.7",))

    assert message in str(raised.value)


def test_more_addresses_than_a_peer_may_have_are_refused() -> None:
    """A stranger cannot make us connect to any number of addresses."""
    with pytest.raises(ProtocolError, match="there are 17 addresses; at most 16"):
        Announcement.from_txt(tcp().to_txt(), port=5000, addresses=[f"192.0.2.{n}" for n in range(1, 18)])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "the announcement of a peer is of type NoneType, not a map"),
        ({}, "the protocol version is 0"),
        ({**announcement().to_wire(), "addr": "192.0.2.7"}, "the addresses of a peer are of type str, not a list"),
        ({**announcement().to_wire(), "names": [1]}, "name among the API names is of type int, not text"),
        ({**announcement().to_wire(), "apis": [["auth"]]}, "the description of an API has 1 items instead of 7"),
        ({**announcement().to_wire(), "apis": [[]] * 1025}, "a peer has 1025 APIs; at most 1024 are read"),
        ({**announcement().to_wire(), "apis": [AUTH.to_wire()] * 2}, "more than once among the API names"),
    ],
)
def test_malformed_value_is_refused(value: object, message: str) -> None:
    """A HELLO or INFO reply that is not an announcement is refused with the reason."""
    with pytest.raises(ProtocolError) as raised:
        Announcement.from_wire(value)

    assert message in str(raised.value)


def test_names_of_all_apis_are_bounded() -> None:
    """A thousand APIs of a thousand names each, every one within its bound, would be hundreds of megabytes."""
    many = tuple(ApiInfo(name=f"a{n}", procedures=tuple(f"p{m}" for m in range(1000))) for n in range(9))
    long = tuple(ApiInfo(name=f"a{n}", procedures=tuple(f"{m:0120}" for m in range(900))) for n in range(3))
    for apis in (many, long):
        with pytest.raises(InvalidConfiguration, match=r"procedures and events, of .* characters in all; at most 8192"):
            announcement(apis=apis, api_names=None)
