"""The access in each mode: sockets, files and ports as the operating system sees them."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

import lightbus
from helpers import Processes
from lightbus import InvalidConfiguration

if TYPE_CHECKING:
    from network.conftest import Network

SERVICES = Path(__file__).parent / "services"
LISTEN = "0A"
MDNS = 5353
MDNS_GROUP = "FB0000E0"
LOOPBACK = "127.0.0.1"
needs_proc = pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs /proc")


class Socket(NamedTuple):
    """A line of /proc/net/tcp or /proc/net/udp."""

    table: str
    address: str
    port: int
    state: str


def sockets_of(pid: int) -> list[Socket]:
    """Return the internet sockets of a process, as proc(5) lists them."""
    targets = (os.readlink(descriptor) for descriptor in _descriptors(pid))
    inodes = {match[1] for target in targets if (match := re.fullmatch(r"socket:\[(\d+)\]", target))}
    found = []
    for table in ("tcp", "tcp6", "udp", "udp6"):
        path = Path(f"/proc/{pid}/net/{table}")
        for line in path.read_text().splitlines()[1:] if path.exists() else ():
            fields = line.split()
            if fields[9] in inodes:
                address, _, port = fields[1].partition(":")
                found.append(Socket(table, _address(address), int(port, 16), fields[3]))
    return found


def _descriptors(pid: int) -> Iterator[Path]:
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            os.readlink(entry)
        except FileNotFoundError:
            continue
        yield entry


def _address(hexadecimal: str) -> str:
    if len(hexadecimal) > 8:
        return hexadecimal
    return ".".join(str(byte) for byte in reversed(bytes.fromhex(hexadecimal)))


def tcp_of(pid: int) -> list[Socket]:
    """Return the TCP sockets of a process, listening or connected."""
    return [found for found in sockets_of(pid) if found.table.startswith("tcp")]


@needs_proc
def test_mode_host_opens_no_port(network: Network) -> None:
    """In mode host neither worker nor caller has a TCP socket, and the start line says that it stays on the host."""
    worker, other = network.start_all("host", "work", "other")
    bus = network.bus()
    assert bus.work.who() == worker.pid
    bus.client.wait_for_apis("other")
    for pid in (worker.pid, other.pid, os.getpid()):
        assert tcp_of(pid) == []
        assert all(found.port == MDNS for found in sockets_of(pid))
    worker.wait_for_line("no key: this bus stays on this host")


@needs_proc
def test_directory_of_sockets_is_private(network: Network) -> None:
    """The sockets are in a directory that only this user can enter, and are removed with their worker."""
    worker = network.start()
    places = network.bus().client.engine.network.places
    assert places is not None
    assert len(places.there()) >= 3
    for directory in places.there():
        for path in (directory, directory.parent):
            assert stat.S_IMODE(path.stat().st_mode) == 0o700
        assert sorted(path.suffix for path in directory.iterdir()) == [".peer", ".pub", ".rpc"]
    worker.ask_to_end()
    assert worker.wait() == 0
    assert [file for directory in places.there() for file in directory.iterdir()] == []


def test_sockets_of_a_killed_worker_are_removed_by_the_next(network: Network) -> None:
    """A worker that starts removes the sockets of a killed one, and none of a running one."""
    killed, living = network.start_all("host", "work", "other")
    places = network.bus().client.engine.network.places
    assert places is not None
    directory = places.there()[0]
    killed.kill()
    left = set(directory.iterdir())
    for path in left:
        os.utime(path, (time.time() - 60,) * 2)  # else it could be one that binds just now
    worker = network.start()
    kept = left & set(directory.iterdir())
    assert (len(left), len(kept)) == (6, 3)
    bus = network.bus()
    assert (bus.work.who(), bus.other.who()) == (worker.pid, living.pid)


@needs_proc
def test_mode_insecure_listens_at_the_given_address(network: Network) -> None:
    """With `LIGHTBUS_INTERFACES` there are two ports at that address and no other, and a warning at each start."""
    network.use("insecure")
    worker = network.start()
    listening = [found for found in tcp_of(worker.pid) if found.state == LISTEN]
    assert [(found.table, found.address) for found in listening] == [("tcp", LOOPBACK)] * 2
    line = worker.wait_for_line(r"WARNING +lightbus.worker: security is 'insecure'.*")[0]
    assert LOOPBACK in line
    assert network.bus().work.who() == worker.pid
    assert [found for found in tcp_of(os.getpid()) if found.state == LISTEN] == []


def test_mode_insecure_requires_a_bus_name(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an explicit bus name neither a worker nor a caller starts, and both errors name the setting."""
    network.use("insecure")
    monkeypatch.delenv("LIGHTBUS_BUS")
    worker = network.start(ready=False)
    assert worker.wait() == 2
    worker.wait_for_line("Error: security.mode is insecure.*LIGHTBUS_BUS")
    with pytest.raises(InvalidConfiguration, match="LIGHTBUS_BUS"):
        lightbus.create()


def test_port_in_use(network: Network) -> None:
    """A worker whose fixed port is in use ends with an error that names the port and the setting."""
    network.use("seed")
    network.start_all("seed", "work")
    second = network.start_seed(ready=False)
    assert second.wait() == 1
    second.wait_for_line(rf"Error: Cannot listen at tcp://127.0.0.1:{network.seed_port}.*network.rpc_port")


# A network namespace of one's own, in which nobody is disturbed

WORKER = """
ip link set lo up
API=work {python} -m lightbus run --bus peer 2>&1 & worker=$!
"""

CALL = """
{python} -c 'if True:
    import lightbus, logging
    logging.basicConfig(level=logging.WARNING)
    bus = lightbus.create(service_name="caller")
    bus.client.wait_for_apis("work", timeout=60)
    print("called", bus.work.who(), flush=True)
    bus.client.close()
' 2>&1
"""

END = """
kill $worker; wait $worker; echo worker ended with $?
"""

OCCUPY = """
{python} -c 'if True:
    import socket, time
    taken = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    taken.bind(("", 5353))
    print("taken", flush=True)
    time.sleep(60)
' > taken & occupier=$!
while ! grep -qs taken taken; do sleep 0.02; done
"""

LAN = """
ip link add lan0 type veth peer name lan1
ip addr add 192.0.2.7/24 dev lan0
ip link set lan0 up; ip link set lan1 up
"""


@pytest.fixture
def in_a_namespace(processes: Processes, tmp_path: Path) -> Callable[..., str]:
    """Return a function that runs shell scripts in a separate network namespace; skip if this user can have none."""
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-rn", "true"], check=False, capture_output=True).returncode:
        pytest.skip("this user may not make network namespaces")
    if shutil.which("ip") is None:
        pytest.skip("there is no `ip` to set up a network with")
    shutil.copy(SERVICES / "peer.py", tmp_path)

    def run(*scripts: str) -> str:
        script = "".join(scripts).replace("{python}", sys.executable)
        done = processes.start([unshare, "-rn", "sh", "-c", script], cwd=tmp_path, name="namespace")
        assert done.wait(60) == 0
        return done.output

    return run


@pytest.mark.network
def test_multicast_port_is_in_use(
    network: Network, in_a_namespace: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If another program has port 5353 exclusively there is a warning with the remedy, and fixed peers work."""
    network.use("both")
    config = network.config(network={"rpc_port": network.seed_port})
    worker = WORKER.replace("API", f"LIGHTBUS_CONFIG={config} API")
    output = in_a_namespace(OCCUPY, worker, CALL, END, "kill $occupier")
    assert re.search(r"^called \d+$", output, re.MULTILINE)
    assert "worker ended with 0" in output
    remedy = "UDP port 5353 is shared and multicast allowed, or name a peer: LIGHTBUS_PEERS=host:port"
    assert output.count(remedy) == 2  # the worker says so, and the caller


@pytest.mark.network
def test_mode_host_sends_nothing_to_the_lan(in_a_namespace: Callable[..., str]) -> None:
    """On a host with a network, mode host joins the multicast group, a moment after its start, on loopback only."""
    joined = "until grep -q FB0000E0 /proc/net/igmp; do sleep 0.1; done; "
    output = in_a_namespace(LAN, WORKER, CALL, joined, "cat /proc/net/igmp; echo; ", END)
    assert re.search(r"^called \d+$", output, re.MULTILINE)
    assert _groups(output)["lo"] >= {MDNS_GROUP}
    assert MDNS_GROUP not in _groups(output)["lan0"]


def _groups(igmp: str) -> dict[str, set[str]]:
    """Return the groups joined on each interface, in the hexadecimal form of /proc/net/igmp."""
    groups: dict[str, set[str]] = {}
    name = ""
    for line in igmp.splitlines():
        if interface := re.match(r"\d+\s+(\w+)\s*:", line):
            name = interface[1]
            groups[name] = set()
        elif name and (group := re.match(r"\s+([0-9A-F]{8})\s", line)):
            groups[name].add(group[1])
    return groups
