"""Looking up the names of fixed peers."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator

import pytest

from helpers.name_server import NameServer
from lightbus.adapters.dns import lookup as module
from lightbus.adapters.dns.lookup import (
    MAX_LOOKUPS,
    DnsAnswer,
    answer_of,
    is_name,
    lookup_remedy,
    of_this_host,
    record_of,
    resolve,
)


@pytest.fixture
def server() -> Iterator[NameServer]:
    """Return a name server that this process uses."""
    served = NameServer()
    with served.asked_here():
        yield served


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        ("tcp://auth:5570", True),
        ("tcp://auth.example.:5570", True),
        ("srv+lightbus://auth.example", True),
        ("tcp://10.0.0.7:5570", False),
        ("tcp://[::1]:5570", False),
        ("tcp://[fe80::1%eth0]:5570", False),
        ("tcp://eth0;10.0.0.7:5570", False),
        ("ipc:///run/lightbus/a.rpc", False),
    ],
)
def test_names_are_looked_up(endpoint: str, expected: bool) -> None:
    """Not addresses, nor files."""
    assert is_name(endpoint) is expected


def test_endpoints_of_this_host() -> None:
    """Loopback stands for our own addresses, if they are others; any other endpoint only for itself."""
    ours = ["192.0.2.7", "2001:db8::7", "127.0.0.1"]
    assert of_this_host("tcp://127.0.1.1:5570", ours) == ["tcp://192.0.2.7:5570"]
    assert of_this_host("tcp://127.0.1.1:5570", ["127.0.0.1"]) == []
    assert of_this_host("tcp://127.0.0.1:5570", ours) == ["tcp://192.0.2.7:5570"]
    for endpoint in ("tcp://192.0.2.8:5570", "tcp://localhost:5570", "ipc:///run/127.0.0.1", "tcp://[::1]:5570"):
        assert of_this_host(endpoint, ours) == []


def test_name_of_a_record() -> None:
    """A service's name gets Lightbus' prefix; a full record name is unchanged."""
    assert record_of("srv+lightbus://auth.example") == "_lightbus._tcp.auth.example"
    assert record_of("srv+lightbus://_rpc._tcp.auth.example") == "_rpc._tcp.auth.example"


def test_all_addresses_of_a_host(server: NameServer) -> None:
    """A name gives each of its addresses, with the given port."""
    server.hosts["auth.example"] = ["10.0.0.1", "10.0.0.2"]
    found = answer_of("tcp://auth.example:5570")
    assert (sorted(found.endpoints), found.problem) == (["tcp://10.0.0.1:5570", "tcp://10.0.0.2:5570"], "")


def test_all_hosts_of_a_record(server: NameServer) -> None:
    """An SRV record gives each of its hosts, with its port; an unknown host is left out."""
    server.services["_lightbus._tcp.auth.example"] = [("one.example", 1), ("gone.example", 2), ("two.example", 3)]
    server.hosts.update({"one.example": ["10.0.0.1"], "two.example": ["10.0.0.2", "10.0.0.3"]})
    found = answer_of("srv+lightbus://auth.example")
    assert sorted(found.endpoints) == ["tcp://10.0.0.1:1", "tcp://10.0.0.2:3", "tcp://10.0.0.3:3"]
    assert found.problem == ""


@pytest.mark.parametrize(
    ("endpoint", "problem"),
    [
        ("tcp://nobody.example:5570", "Name or service not known"),
        ("srv+lightbus://nobody.example", "The DNS query name does not exist: _lightbus._tcp.nobody.example"),
        ("srv+lightbus://none.example", "_lightbus._tcp.none.example has no host that offers it"),
        ("srv+lightbus://lost.example", "lost-0.example: "),
    ],
)
def test_failed_lookup_has_a_reason(server: NameServer, endpoint: str, problem: str) -> None:
    """The reason names what was not found."""
    server.services["_lightbus._tcp.none.example"] = [("", 0)]
    server.services["_lightbus._tcp.lost.example"] = [("lost-0.example", 1)]
    found = answer_of(endpoint)
    assert found.endpoints == ()
    assert problem in found.problem


def test_invalid_name_is_not_looked_up() -> None:
    """No name server could know it."""
    assert "label" in answer_of(f"tcp://{'a' * 70}.example:5570").problem


def test_lookup_remedy_names_the_command() -> None:
    """It says how to ask the name server."""
    assert "`getent ahostsv4 auth.example`" in lookup_remedy("tcp://auth.example:5570")
    assert "`dig SRV _lightbus._tcp.auth.example`" in lookup_remedy("srv+lightbus://auth.example")


def test_srv_records_need_dnspython(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it, the problem says what to install."""
    monkeypatch.setitem(sys.modules, "dns.resolver", None)
    assert "pip install 'lightbus[srv]'" in answer_of("srv+lightbus://auth.example").problem


def test_hanging_lookup_does_not_block_the_loop(server: NameServer) -> None:
    """The loop runs in the meantime, and gets the answer in the end."""
    server.hosts["auth.example"] = ["10.0.0.1"]
    server.answers.clear()

    async def main() -> DnsAnswer:
        done: asyncio.Future[DnsAnswer] = asyncio.get_running_loop().create_future()
        assert resolve("tcp://auth.example:5570", done.set_result)
        while not server.asked:
            await asyncio.sleep(0.001)
        assert not done.done()
        server.answers.set()
        return await done

    assert asyncio.run(main()).endpoints == ("tcp://10.0.0.1:5570",)


def test_a_lookup_outlives_its_loop(server: NameServer) -> None:
    """A loop that is closed when the name server answers gets nothing, and did not wait."""
    server.answers.clear()
    told: list[DnsAnswer] = []

    async def main() -> None:
        assert resolve("tcp://auth.example:5570", told.append)

    asyncio.run(main())
    server.answers.set()
    for thread in list(module._threads):
        thread.join()
    assert told == []


def test_lookups_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many lookups hang, the number of threads is bounded; ended ones make room."""
    proceed = threading.Event()

    def hang(endpoint: str) -> DnsAnswer:
        proceed.wait()
        return DnsAnswer()

    monkeypatch.setattr(module, "answer_of", hang)

    async def main() -> None:
        try:
            began = [resolve("tcp://auth.example:5570", lambda answer: None) for _ in range(MAX_LOOKUPS + 1)]
        finally:
            proceed.set()
        assert began == [*[True] * MAX_LOOKUPS, False]
        for thread in list(module._threads):
            thread.join()
        assert resolve("tcp://auth.example:5570", lambda answer: None)
        module._threads[-1].join()

    asyncio.run(main())


def test_no_further_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system allows none, the lookup has failed, with that reason, and is repeated like any other."""

    def refused(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refused)

    async def main() -> None:
        answers: list[DnsAnswer] = []
        assert resolve("tcp://auth.example:5570", answers.append)
        assert answers == []
        await asyncio.sleep(0)
        [answer] = answers
        assert answer.problem.startswith("can't start new thread (ulimit -u")

    asyncio.run(main())


def test_any_failure_is_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that is a fault of the program: otherwise the lookup would seem to hang for ever."""
    monkeypatch.setattr(module, "_by_host", lambda endpoint: 1 // 0)
    assert answer_of("tcp://auth.example:5570").problem == "integer division or modulo by zero"
