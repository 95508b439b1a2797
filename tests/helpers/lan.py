"""
A network of several hosts on one machine: each host a network namespace (ip-netns(8)) with a name of its own, on
bridges in a namespace of their own. Nothing of it touches the machine's own interfaces, and no packet leaves.

Hosts share the machine's files and processes; directories of their own keep unix sockets and journals apart.
"""

from __future__ import annotations

import ctypes
import os
import random
import secrets
import select
import shutil
import socket
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from .forking import OtherHost
from .processes import Process, Processes

__all__ = ["Capture", "Host", "Lan", "lan_problem"]

T = TypeVar("T")

NETNS = Path("/run/netns")
SETTINGS = Path("/etc/netns")
"""`ip netns exec` mounts the files in a namespace's directory below this one over those in /etc."""

ETH_P_ALL = 0x0003  # packet(7)
SO_RCVBUFFORCE = 33  # socket(7)
SOL_PACKET, PACKET_VNET_HDR = 263, 15  # linux/if_packet.h
CAPTURE_BYTES = 64 * 1024 * 1024


def lan_problem() -> str:
    """Return why no such network can be made here; empty if it can."""
    if not sys.platform.startswith("linux"):
        return "network namespaces are Linux's"
    for program in ("ip", "unshare"):
        if shutil.which(program) is None:
            return f"there is no `{program}` (Debian: apt-get install iproute2 util-linux)"
    name = f"lb{secrets.token_hex(4)}"
    try:
        _run("ip", "netns", "add", name)
        _run("ip", "-n", name, "link", "add", "name", "br0", "type", "bridge")
        _run(*OtherHost(name, "host").command(["true"]))
        within(name, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)).close()
    except (RuntimeError, OSError) as error:
        return f"network namespaces are not allowed here ({error})"
    finally:
        subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)
    return ""


class Lan:
    """
    The switch: bridges in a namespace of their own, and the hosts plugged into them.

    Bridge `n` is the subnet 10.77.n.0/24. `close` removes everything, whatever state it is in.

    Args:
        processes: starts what runs on the hosts.
        directory: where each host's directories are made; its path is short, for unix sockets.

    """

    def __init__(self, processes: Processes, directory: Path) -> None:
        self._id = f"lb{secrets.token_hex(3)}"
        self._processes = processes
        self._directory = directory
        self._hosts: list[Host] = []
        self._settings: list[Path] = []
        self.namespace = f"{self._id}-switch"
        _run("ip", "netns", "add", self.namespace)
        try:
            self.ip("link set lo up", *_new_bridge(1))
        except BaseException:
            self.close()
            raise

    def add_bridge(self, number: int) -> None:
        """Add a bridge without multicast snooping, which passes each multicast packet to every port."""
        self.ip(*_new_bridge(number))

    def route_between(self, *numbers: int) -> None:
        """Become the router between these subnets, at their address 254. Multicast is not routed."""
        for number in numbers:
            self.ip(f"addr add 10.77.{number}.254/24 dev br{number}")
        _run("ip", "netns", "exec", self.namespace, "sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward")

    def host(self, number: int, *, bridge: int = 1) -> Host:
        """Return a new host `h<number>`, whose `eth0` is plugged into a bridge, with the address 10.77.b.n."""
        name, address = f"h{number}", f"10.77.{bridge}.{number}"
        host = Host(name, address, f"{self._id}-{name}", self._directory / name, self._processes)
        self._hosts.append(host)
        _run("ip", "netns", "add", host.namespace)
        self._lay_cable(host, "eth0", bridge)
        host.ip(
            "link set lo up",
            "link set eth0 up",
            f"addr add {address}/24 dev eth0",
            f"route add default via 10.77.{bridge}.254",
        )
        return host

    def wire(self, host: Host, interface: str, *, bridge: int | None) -> None:
        """Give a host an interface without an address, whose other end is plugged into a bridge (or into nothing)."""
        self._lay_cable(host, interface, bridge)
        host.ip(f"link set {interface} up")

    def _lay_cable(self, host: Host, interface: str, bridge: int | None) -> None:
        port = host.port(interface)
        self.ip(
            f"link add {port} type veth peer name {interface} netns {host.namespace}",
            f"link set {port} up",
            *([] if bridge is None else [f"link set {port} master br{bridge}"]),
        )

    def unplug(self, host: Host) -> None:
        """Disconnect a host's eth0 from the bridge, as by pulling its cable."""
        self.ip(f"link set {host.port('eth0')} down")

    def plug(self, host: Host) -> None:
        """Connect it again."""
        self.ip(f"link set {host.port('eth0')} up")

    @contextmanager
    def bad_cable(self, host: Host, *, delay: float, loss: float, randomness: random.Random) -> Iterator[None]:
        """
        Delay every frame to and from a host's eth0 by `delay` seconds, and drop this share of them.

        `tc netem` would do the same, but not every kernel has it.
        """
        port, bridge_end, our_end = host.port("eth0"), f"{host.name}-far", f"{host.name}-near"
        self.ip(
            f"link add {our_end} type veth peer name {bridge_end}",
            f"link set {bridge_end} master br1",
            f"link set {our_end} up",
            f"link set {bridge_end} up",
            f"link set {port} nomaster",
        )
        with self.raw_socket(port, offloaded=True) as here, self.raw_socket(our_end, offloaded=True) as there:
            stop, stopped = socket.socketpair()
            with stop, stopped, ThreadPoolExecutor(1) as executor:
                carrying = executor.submit(_carry, here, there, stopped, delay, loss, randomness)
                try:
                    yield
                finally:
                    stop.send(b"x")
                    carrying.result()

    def name(self, host: Host, names: Mapping[str, str]) -> None:
        """Write the names of other hosts (`{name: address}`) to the /etc/hosts of a host; each call replaces all."""
        file = SETTINGS / host.namespace / "hosts"
        if file.parent not in self._settings:
            self._settings.append(file.parent)
            file.parent.mkdir(parents=True)
        # Written and not replaced: what was mounted is this very file.
        file.write_text("127.0.0.1 localhost\n" + "".join(f"{address} {name}\n" for name, address in names.items()))

    @contextmanager
    def capture(self, host: Host) -> Iterator[Capture]:
        """Capture the frames that pass the bridge's port of a host, in both directions."""
        with self.raw_socket(host.port("eth0")) as ear:
            yield Capture(ear)

    def raw_socket(self, port: str, *, offloaded: bool = False) -> socket.socket:
        """Return a packet(7) socket on one interface of the switch; `offloaded`, with checksums still missing."""

        def make() -> socket.socket:
            made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
            made.setsockopt(SOL_PACKET, PACKET_VNET_HDR, offloaded)
            made.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, CAPTURE_BYTES)
            made.bind((port, 0))
            return made

        return within(self.namespace, make)

    def ip(self, *commands: str) -> None:
        """Run commands of `ip` in the switch."""
        _ip(self.namespace, *commands)

    def close(self) -> None:
        """End the programs on the hosts, and remove everything."""
        try:
            self._processes.end()
        finally:
            namespaces = [self.namespace, *(host.namespace for host in self._hosts)]
            remove = "".join(f"netns del {namespace}\n" for namespace in namespaces)
            # `-force`: where one is not there, the others go all the same.
            subprocess.run(["ip", "-force", "-batch", "-"], check=False, capture_output=True, text=True, input=remove)
            for directory in self._settings:
                shutil.rmtree(directory, ignore_errors=True)
            if self._settings:
                with suppress(OSError):  # it was there before, with something else in it
                    SETTINGS.rmdir()


class Host:
    """One host: its namespace, its address, its directories, and its programs."""

    def __init__(self, name: str, address: str, namespace: str, directory: Path, processes: Processes) -> None:
        self.name = name
        self.address = address
        self.namespace = namespace
        self.env: dict[str, str] = {}
        """Variables of all that is started here from now on."""
        self._processes = processes
        places = {"XDG_RUNTIME_DIR": "run", "XDG_CONFIG_HOME": "config", "LIGHTBUS_DATA_DIR": "data"}
        for variable, place in places.items():
            (directory / place).mkdir(parents=True, mode=0o700)
            self.env[variable] = str(directory / place)

    def port(self, interface: str) -> str:
        """Return the name of the other end of an interface, in the switch."""
        return f"{self.name}-{interface}"

    def ip(self, *commands: str) -> None:
        """Run commands of `ip` on this host."""
        _ip(self.namespace, *commands)

    def run(self, *argv: str, cwd: Path | None = None, name: str = "", **env: str) -> Process:
        """Start a program here, with additional variables."""
        return self._processes.start(
            [*argv],
            cwd=cwd,
            env={**self.env, **env},
            name=f"{self.name}-{name or argv[0]}",
            host=OtherHost(self.namespace, self.name),
        )

    def python(self, *args: str, cwd: Path | None = None, name: str = "python", **env: str) -> Process:
        """Start this Python here, with `args`."""
        return self.run(sys.executable, *args, cwd=cwd, name=name, **env)

    def lightbus(self, *args: str, cwd: Path | None = None, **env: str) -> Process:
        """Start the command line here."""
        return self.python("-m", "lightbus", *args, cwd=cwd, name=args[0], **env)

    def worker(self, module: str, cwd: Path, **env: str) -> Process:
        """Start `lightbus run` here."""
        return self.lightbus("run", "--bus", module, cwd=cwd, **env)


class Capture:
    """The frames that passed an interface since it was made. The kernel keeps them until they are read."""

    def __init__(self, ear: socket.socket) -> None:
        self._ear = ear
        self._ear.setblocking(False)
        self._frames: list[bytes] = []

    def frames(self) -> list[bytes]:
        """Return all of them, each an Ethernet frame."""
        with suppress(BlockingIOError):
            while True:
                self._frames.append(self._ear.recv(0x1FFFF))
        return self._frames

    def holds(self, text: bytes) -> bool:
        """Return whether one of them contains this."""
        return any(text in frame for frame in self.frames())

    def first_stream_to(self, port: int) -> bytes:
        """Return the bytes of the first TCP connection (RFC 9293) to a port, from its beginning."""
        said: dict[int, bytes] = {}
        caller = first = None
        for frame in self.frames():
            if frame[12:14] != b"\x08\0" or frame[23] != socket.IPPROTO_TCP:
                continue
            packet = frame[14 : 14 + int.from_bytes(frame[16:18])] if frame[16:18] != b"\0\0" else frame[14:]
            segment = packet[4 * (packet[0] & 0xF) :]
            source, target, sequence = struct.unpack(">HHI", segment[:8])
            if target != port or caller not in (None, source):
                continue
            if segment[13] & 0x02:  # SYN
                caller, first = source, sequence + 1
            elif first is not None and (data := segment[4 * (segment[12] >> 4) :]):
                said[(sequence - first) % 2**32] = data
        return b"".join(said[offset] for offset in sorted(said))


def within(namespace: str, make: Callable[[], T]) -> T:
    """Return the result of `make` in a network namespace. A thread enters it, for setns(2) affects only the thread."""

    def enter() -> T:
        libc = ctypes.CDLL(None, use_errno=True)
        descriptor = os.open(NETNS / namespace, os.O_RDONLY)
        try:
            if libc.setns(descriptor, 0):
                raise OSError(ctypes.get_errno(), f"cannot enter {namespace}")
        finally:
            os.close(descriptor)
        return make()

    with ThreadPoolExecutor(1) as executor:
        return executor.submit(enter).result()


def _carry(
    here: socket.socket,
    there: socket.socket,
    stop: socket.socket,
    delay: float,
    loss: float,
    randomness: random.Random,
) -> None:
    """Forward frames between two interfaces, with delay and loss, until `stop` can be read."""
    on_the_way: deque[tuple[float, socket.socket, bytes]] = deque()
    other = {here: there, there: here}
    for end in other:
        end.setblocking(False)
    while True:
        patience = max(0.0, on_the_way[0][0] - time.monotonic()) if on_the_way else None
        readable, _, _ = select.select([here, there, stop], [], [], patience)
        if stop in readable:
            return
        for end in readable:
            with suppress(BlockingIOError):
                while True:
                    frame, address = end.recvfrom(0x1FFFF)
                    if address[2] != socket.PACKET_OUTGOING and randomness.random() >= loss:
                        on_the_way.append((time.monotonic() + delay, other[end], frame))
        while on_the_way and on_the_way[0][0] <= time.monotonic():
            _, end, frame = on_the_way.popleft()
            with suppress(OSError):  # full, or the cable is out: it is lost
                end.send(frame)


def _new_bridge(number: int) -> list[str]:
    # Whether a snooping bridge lets 224.0.0.251 through (RFC 4541 says it must) is not what is tested here.
    return [f"link add br{number} type bridge mcast_snooping 0 forward_delay 0", f"link set br{number} up"]


def _ip(namespace: str, *commands: str) -> None:
    _run("ip", "-n", namespace, "-batch", "-", text="\n".join(commands) + "\n")


def _run(*command: str, text: str = "") -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True, input=text)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
