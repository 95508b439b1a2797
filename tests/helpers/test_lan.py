"""A network of hosts on one machine: apart from it, and gone in the end, whatever happened."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from helpers import Processes
from helpers.lan import Host, Lan, lan_problem, within
from helpers.surroundings import Surroundings


@pytest.fixture
def lan(processes: Processes, surroundings: Surroundings) -> Lan:
    """Return a network, for the test to close."""
    if problem := lan_problem():
        pytest.skip(problem)
    return Lan(processes, surroundings.runtime)


def namespaces() -> str:
    """Return the names of all network namespaces."""
    return subprocess.run(["ip", "netns", "list"], check=True, capture_output=True, text=True).stdout


def connect(host: Host, address: str, port: int) -> None:
    """Connect from a host, and let go again."""
    within(host.namespace, lambda: socket.create_connection((address, port), 1)).close()


LISTEN = """
import socket
with socket.create_server(("", 7000)) as server:
    print("I am", socket.gethostname())
    server.accept()[0].close()
"""


@pytest.mark.network
def test_hosts_are_apart_from_the_machine(lan: Lan) -> None:
    """A host has an interface of its own and a name, and reaches the others and nothing else."""
    ours = socket.if_nameindex()
    with closing(lan), socket.create_server(("127.0.0.1", 0)) as machine:
        one, two = lan.host(1), lan.host(2)
        assert {name for _, name in within(one.namespace, socket.if_nameindex)} >= {"lo", "eth0"}
        listening = one.python("-c", LISTEN)
        listening.wait_for_line("I am h1")
        connect(two, one.address, 7000)
        assert listening.wait() == 0
        for address, port in (machine.getsockname(), ("192.0.2.1", 80)):
            with pytest.raises(OSError, match=r"refused|unreachable|No route|timed out"):
                connect(two, address, port)
        assert socket.if_nameindex() == ours


@pytest.mark.network
def test_nothing_is_left(lan: Lan) -> None:
    """After a failure, and where one is not there any more, its namespaces are gone, and what ran in them."""
    gone, host = lan.host(1), lan.host(2)
    subprocess.run(["ip", "netns", "del", gone.namespace], check=True)
    lan.name(host, {"other.example": "10.77.1.2"})
    sleeper = host.python("-c", "print('up'); import time; time.sleep(60)")
    sleeper.wait_for_line("up")
    assert host.namespace in namespaces()
    with pytest.raises(RuntimeError, match="no-such-device"), closing(lan):
        host.ip("link set no-such-device up")
    assert host.namespace not in namespaces()
    assert lan.namespace not in namespaces()
    assert not sleeper.running


TELL = """
import json, os, socket
print(json.dumps([socket.gethostname(), sorted(os.listdir("/sys/class/net")), open("/etc/hosts").read(), os.getpid()]))
"""


@pytest.mark.network
def test_copy_is_on_its_host_as_a_new_interpreter_is(lan: Lan) -> None:
    """Both see the host's name, its interfaces and whom it knows; and nobody else does."""
    with closing(lan):
        host = lan.host(1)
        lan.name(host, {"other.example": "10.77.1.2"})
        told = []
        for process in (host.python("-c", TELL), host.run("sh", "-c", 'exec "$0" -c "$1"', sys.executable, TELL)):
            assert process.wait() == 0, process.report()
            *seen, pid = json.loads(process.stdout)
            assert pid == process.pid
            told.append(seen)
        assert told[0] == told[1]
        assert told[0][:2] == ["h1", ["eth0", "lo"]]
        assert "10.77.1.2 other.example" in told[0][2]
        assert socket.gethostname() != "h1"
        assert "other.example" not in Path("/etc/hosts").read_text()
