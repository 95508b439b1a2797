"""A network of hosts on one machine: isolated from it, and removed in the end, whatever happened."""

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
    """Connect from a host, and disconnect."""
    within(host.namespace, lambda: socket.create_connection((address, port), 1)).close()


LISTEN = """
import socket
with socket.create_server(("", 7000)) as server:
    print("I am", socket.gethostname())
    server.accept()[0].close()
"""


@pytest.mark.network
def test_hosts_are_isolated_from_the_machine(lan: Lan) -> None:
    """A host has its own interface and name, and reaches the other hosts and nothing else."""
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
def test_nothing_remains(lan: Lan) -> None:
    """After a failure, and for a host that is already gone, its namespaces are removed, and its programs ended."""
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
def test_a_copy_runs_on_its_host(lan: Lan) -> None:
    """As a new interpreter does, it has the host's name, its interfaces and its names of others."""
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
