"""
Three hosts on a network: they find each other, keep others out, and live through what happens to cables and addresses.

Bounds in seconds are those of a quiet machine; a test prints what it measured, and fails only when it takes `SLACK`
times as long.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from helpers import Process, scaled, wait_until
from helpers.lan import Host, Lan
from helpers.stopwatch import Stopwatch
from lightbus.config.keys import BusKey

PROGRAMS = Path(__file__).parent / "programs"
README = Path(__file__).parents[2] / "README.md"

OURS, OTHER = BusKey.generate(), BusKey.generate()
SECRET = "the-quick-brown-fox"
SLACK = 5

OUTAGE = scaled(60)
"""Seconds that a cable is out: the longer it is, the longer are the pauses between attempts."""

pytestmark = pytest.mark.network


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give every host the key, and fixed ports."""
    monkeypatch.setenv("LIGHTBUS_BUS_KEY", OURS.text)


def start_workers(*hosts: Host, **env: str) -> list[Process]:
    """Start a worker on each host, at the same time, and wait for all."""
    workers = [host.worker("lan_worker", PROGRAMS, **env) for host in hosts]
    for worker in workers:
        worker.wait_for_line("Ready")
    return workers


def start_caller(host: Host, **env: str) -> Process:
    """Start a caller on a host."""
    return host.python("lan_caller.py", cwd=PROGRAMS, name="caller", **env)


def first_call(host: Host, **env: str) -> tuple[float, str]:
    """Return the duration of a new process's first call, and its outcome: the host it reached, or the error."""
    watch = Stopwatch()
    caller = start_caller(host, ONCE="1", **env)
    assert caller.wait(10 * SLACK) == 0, caller.report()
    seconds, outcome = caller.wait_for_line(r"^first (\S+) (.*)").groups()
    return uncrowded(float(seconds), watch), outcome


def uncrowded(seconds: float, watch: Stopwatch) -> float:
    """Return the seconds that a program took, without those in which the machine was overloaded."""
    return max(0.0, seconds - (watch.elapsed - watch.seconds))


def outcomes(caller: Process, *, since: float = 0.0) -> list[tuple[float, str]]:
    """Return when each call ended, and its outcome, sync and async."""
    lines = re.findall(r"^(\d+\.\d+) (?:sync|async) (\S+)$", caller.stdout, re.MULTILINE)
    return [(float(at), outcome) for at, outcome in lines if float(at) >= since]


def numbers(process: Process, word: str, host: str) -> list[int]:
    """Return the numbers of the printed lines `word host number` of a process."""
    return [int(number) for number in re.findall(rf"^{word} {host} (\d+)$", process.stdout, re.MULTILINE)]


def measured(what: str, seconds: float, bound: float) -> None:
    """Print a measurement; fail only when it is far beyond its bound."""
    print(f"measured: {what}: {seconds:.2f} s (bound {bound:g} s)")
    assert seconds < bound * SLACK


# --- who is there -----------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("mode", ["bus_key", "insecure"])
def test_hosts_find_each_other(lan: Lan, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    """With multicast alone they call and listen; with a key, and only then, the traffic cannot be read."""
    if mode == "insecure":
        monkeypatch.delenv("LIGHTBUS_BUS_KEY")
        monkeypatch.setenv("LIGHTBUS_SECURITY", "insecure")
    one, two, three = (lan.host(number) for number in (1, 2, 3))
    with lan.capture(three) as capture:
        workers = start_workers(one, two, EVERY="0.05")
        third = start_workers(three, API="other")[0]
        for process, other in [(workers[0], "h2"), (workers[1], "h1"), (third, "h1"), (third, "h2")]:
            process.wait_for_line(rf"^heard {other} \d+", 10 * SLACK)
        seconds, where = first_call(three, NOTE=SECRET)
        assert where in ("h1", "h2")
        measured(f"{mode}: a new process makes its first call to another host", seconds, 1)
        readable = capture.holds(SECRET.encode()), capture.holds(b"work\0told\0")
    assert readable == ((False, False) if mode == "bus_key" else (True, True))


@pytest.mark.long
def test_other_hosts_have_no_access(lan: Lan, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host with another key, or none, on the same network and with the same bus name, gets no access."""
    one, two, three = (lan.host(number) for number in (1, 2, 3))
    workers = start_workers(one, two, EVERY="0.05")
    strangers = [
        three.worker("lan_worker", PROGRAMS, LIGHTBUS_BUS_KEY=OTHER.text, API="other"),
        three.worker("lan_worker", PROGRAMS, LIGHTBUS_BUS_KEY="", LIGHTBUS_SECURITY="host", API="other"),
        three.worker("lan_worker", PROGRAMS, LIGHTBUS_BUS_KEY="", LIGHTBUS_SECURITY="insecure", API="other"),
    ]
    for stranger in strangers:
        stranger.wait_for_line("Ready", 10 * SLACK)
    callers = [
        (start_caller(three, ONCE="1", LIGHTBUS_BUS_KEY=OTHER.text), "PeerRefused"),
        (start_caller(three, ONCE="1", LIGHTBUS_BUS_KEY="", LIGHTBUS_SECURITY="host"), "UnknownApi"),
        (start_caller(three, ONCE="1", LIGHTBUS_BUS_KEY="", LIGHTBUS_SECURITY="insecure"), "PeerRefused"),
    ]
    for caller, error in callers:
        caller.wait_for_line(rf"^first \S+ {error}: ", 10 * SLACK)
    fired = numbers(workers[0], "fired", "h1")[-1]
    wait_until(lambda: fired + 20 in numbers(workers[1], "heard", "h1"), 10 * SLACK)
    for stranger in strangers:
        assert not re.search("^heard|is up at", stranger.output, re.MULTILINE), stranger.report()


REMOTE = """#!/bin/sh
# Stands in for ssh and scp between the hosts: web-2 is another home.
case $(basename $0) in
    ssh) shift; cd {home} && "$@" ;;
    scp) cp -p "$2" {home}/"${3#web-2:}" ;;
esac
"""


def test_readme_lines_on_two_hosts(lan: Lan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The README's four lines connect two hosts to one bus."""
    for name in ("LIGHTBUS_BUS_KEY", "LIGHTBUS_BUS", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name)
    one, two = lan.host(1), lan.host(2)
    for host in (one, two):
        del host.env["XDG_CONFIG_HOME"]
        host.env["HOME"] = str(tmp_path / host.name)
        (tmp_path / host.name).mkdir()
    tools = tmp_path / "bin"
    tools.mkdir()
    programs = dict.fromkeys(("ssh", "scp"), REMOTE.replace("{home}", two.env["HOME"]))
    programs["lightbus"] = f'#!/bin/sh\nexec {sys.executable} -m lightbus "$@"\n'
    for name, text in programs.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    shutil.copy(PROGRAMS / "lan_worker.py", tmp_path / "bus.py")
    [block] = [each for each in re.findall("```sh\n(.*?)```", README.read_text(), re.DOTALL) if "keys init" in each]
    *bring, run = block.splitlines()

    brought = one.run("sh", "-e", "-c", "\n".join(bring))
    assert brought.wait() == 0, brought.report()
    workers = [host.run("sh", "-c", f"exec {run}", cwd=tmp_path, EVERY="0.1") for host in (one, two)]
    for worker, other in zip(workers, ("h2", "h1"), strict=True):
        worker.wait_for_line(rf"^heard {other} \d+", 10 * SLACK)


# --- who pretends -----------------------------------------------------------------------------------


def test_an_impostor_costs_failed_handshakes(lan: Lan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Right names at a foreign address, recorded data, and noise: nothing is lost, disclosed, or delayed."""
    one, two, three = (lan.host(number) for number in (1, 2, 3))
    worker = start_workers(one, LIGHTBUS_CONFIG=settings(tmp_path))[0]
    with lan.capture(two) as capture:
        caller = start_caller(two, NOTE=SECRET)
        caller.wait_for_line("async h1", 10 * SLACK)
        overheard = tmp_path / "overheard"
        overheard.write_bytes(capture.first_stream_to(5570))
    assert overheard.stat().st_size > 200
    bus = worker.wait_for_line("bus '(.*?)'")[1]
    began = time.time()
    args = (bus, OURS.fingerprint, three.address, one.address, str(overheard))
    impostor = three.python("lan_impostor.py", *args, cwd=PROGRAMS, name="impostor", NOTE=SECRET)
    impostor.wait_for_line("^announced")
    impostor.wait_for_line(r"^trapped [1-9]", 10 * SLACK)
    seconds, where = first_call(two, NOTE=SECRET)
    assert where == "h1"
    impostor.wait_for_line("^said", 10 * SLACK)
    ended = time.time()
    wait_until(lambda: outcomes(caller, since=ended)[10:], what="calls go on")
    calls = outcomes(caller, since=began)
    assert {outcome for _, outcome in calls} == {"h1"}
    assert "leaked" not in impostor.stdout
    # A caller that ends in a handshake is refused, too, and may come first; the next warning is ten seconds later.
    worker.wait_for_line(r"refused \d+ connections so far, the last from 10\.77\.1\.3", 10 * SLACK)
    assert "Traceback" not in worker.output + caller.output
    measured("a new process makes its first call beside an impostor", seconds, 1)


# --- a cable ----------------------------------------------------------------------------------------


@pytest.mark.long
def test_a_cable_is_pulled_and_put_back(lan: Lan) -> None:
    """Running calls fail with PeerLost, new ones go to the other host, and later to both; no event is lost."""
    one, two, three = (lan.host(number) for number in (1, 2, 3))
    workers = dict(zip(("h1", "h2"), start_workers(one, two, EVERY="0.1"), strict=True))
    caller = start_caller(three, HOLD="4")
    wait_until(lambda: {"h1", "h2"} <= {where for _, where in outcomes(caller)}, 10 * SLACK)
    wait_until(lambda: len(held(workers["h1"]) | held(workers["h2"])) == 8, 10 * SLACK, "8 calls are being executed")
    caught, spared = held(workers["h1"]), held(workers["h2"])
    assert caught
    assert spared
    first = {"h1": first_heard("h1", workers["h2"]), "h2": first_heard("h2", workers["h1"])}

    lan.unplug(one)
    pulled = time.time()
    wait_until(lambda: dropped(caller).keys() >= caught, 5 * SLACK, "calls in progress have failed")
    assert set(dropped(caller).values()) <= {"PeerLost"}
    settled = time.time()
    wait_until(lambda: len(outcomes(caller, since=settled)) > 20, 5 * SLACK, "calls go on")
    failed = [at for at, outcome in outcomes(caller, since=pulled) if outcome == "PeerLost"]
    assert {outcome for _, outcome in outcomes(caller, since=pulled + 0.5)} <= {"h2", "PeerLost"}
    measured("cable pulled, until calls in progress fail with PeerLost", settled - pulled, 5)
    measured("cable pulled, until the last call failed", max(failed, default=pulled) - pulled, 5)
    assert not dropped(caller).keys() & spared

    wait_until(lambda: time.time() > pulled + OUTAGE, OUTAGE + 1)
    lan.plug(one)
    plugged = time.time()
    measured("cable put back, until the host is called again", wait_until_called(caller, "h1", plugged), 10)

    for (host, publisher), listener in zip(workers.items(), reversed(workers.values()), strict=True):
        wait_until_all_heard(publisher, host, listener, since=first[host])
    measured("cable put back, until the events of both sides have arrived", time.time() - plugged, 10)
    for process in (caller, *workers.values()):
        process.kill()  # what is held would hold them up


def first_heard(host: str, listener: Process) -> int:
    """Return the number of a host's first event that a listener got: it may have started after the host."""
    return int(listener.wait_for_line(rf"^heard {host} (\d+)$", 10 * SLACK)[1])


def wait_until_called(caller: Process, host: str, since: float) -> float:
    """Return the seconds from `since` until a host is called (again)."""
    wait_until(lambda: host in {where for _, where in outcomes(caller, since=since)}, 10 * SLACK, f"{host} is called")
    return min(at for at, where in outcomes(caller, since=since) if where == host) - since


def wait_until_all_heard(publisher: Process, host: str, listener: Process, *, since: int = 1) -> None:
    """Return when a listener has all events of a host up to now, from a number on."""
    fired = {number for number in numbers(publisher, "fired", host) if number >= since}
    wait_until(lambda: fired <= set(numbers(listener, "heard", host)), 10 * SLACK, f"what {host} fired is heard")


def held(worker: Process) -> set[int]:
    """Return the tokens of the calls that a worker executes."""
    return {int(token) for token in re.findall(r"^holding (\d+)$", worker.stdout, re.MULTILINE)}


def dropped(caller: Process) -> dict[int, str]:
    """Return the tokens of the held calls that have failed, and their errors."""
    return {int(token): error for token, error in re.findall(r" held (\d+) (\S+)$", caller.stdout, re.MULTILINE)}


# --- addresses --------------------------------------------------------------------------------------


def test_an_address_changes(lan: Lan) -> None:
    """A worker whose host gets another address is found there, by others and by itself, with the same instance."""
    one, three = lan.host(1), lan.host(3)
    worker = start_workers(one, EVERY="0.1")[0]
    caller = start_caller(three)
    caller.wait_for_line("async h1")
    one.ip("addr del 10.77.1.1/24 dev eth0", "addr add 10.77.1.101/24 dev eth0")
    changed = time.time()
    worker.wait_for_line("The addresses .* are now 10.77.1.101$")
    noticed = time.time()
    measured(
        "address changed, until the host is called again",
        wait_until_called(caller, "h1", noticed) + noticed - changed,
        10,
    )
    fired = numbers(worker, "fired", "h1")[-1]
    wait_until(lambda: fired + 5 in numbers(worker, "heard", "h1"), 10 * SLACK, "it hears itself")
    wait_until_all_heard(worker, "h1", worker)
    assert len(re.findall("Ready", worker.output)) == 1


def test_an_interface_appears(lan: Lan, tmp_path: Path) -> None:
    """A new interface is used, and announced, after the start; bridges like those of Docker never are."""
    lan.add_bridge(2)
    one, three = lan.host(1), lan.host(3, bridge=2)
    add_container_bridge(one, "docker0", "172.17.0.1")
    worker = start_workers(one, LIGHTBUS_CONFIG=settings(tmp_path))[0]
    caller = start_caller(three, TIMEOUT="2")
    caller.wait_for_line("first .* UnknownApi")
    with lan.capture(three) as capture:
        add_container_bridge(one, "br-0a1b2c3d4e5f", "172.18.0.1")
        lan.wire(one, "eth1", bridge=2)
        one.ip("addr add 10.77.2.1/24 dev eth1")
        measured("interface appeared, until the host is called there", wait_until_called(caller, "h1", time.time()), 10)
        announced = {address: capture.holds(socket.inet_aton(address)) for address in CONTAINERS | {"10.77.2.1"}}
    assert announced == {"10.77.2.1": True, "172.17.0.1": False, "172.18.0.1": False}
    assert listening(one) == {f"10.77.{bridge}.1:{port}" for bridge in (1, 2) for port in (5570, 5571)}
    worker.wait_for_line("The addresses .* are now 10.77.1.1, 10.77.2.1$")


CONTAINERS = {"172.17.0.1", "172.18.0.1"}


def add_container_bridge(host: Host, name: str, address: str) -> None:
    """Give a host a bridge with a connected port, as container programs do."""
    host.ip(
        f"link add name {name} type bridge", f"addr add {address}/16 dev {name}", f"link set {name} up",
        f"link add veth{address[5]} type veth peer name in{address[5]}", f"link set veth{address[5]} master {name}",
        f"link set veth{address[5]} up", f"link set in{address[5]} up",
    )  # fmt: skip


def listening(host: Host) -> set[str]:
    """Return the addresses at which a host accepts TCP connections."""
    shown = subprocess.run(
        ["ip", "netns", "exec", host.namespace, "ss", "-Hltn"], check=True, capture_output=True, text=True
    )
    return {line.split()[3] for line in shown.stdout.splitlines()}


# --- no multicast -----------------------------------------------------------------------------------


def settings(tmp_path: Path, **sections: object) -> str:
    """Write a configuration file with fixed ports, and return its path."""
    file = tmp_path / f"{len(list(tmp_path.iterdir()))}.json"
    file.write_text(json.dumps({"network": {"rpc_port": 5570, "event_port": 5571}, **sections}))
    return str(file)


def test_one_seed_joins_two_subnets(lan: Lan, tmp_path: Path) -> None:
    """Without multicast between them, one fixed peer introduces hosts of two subnets to each other."""
    lan.add_bridge(2)
    lan.route_between(1, 2)
    one, two, three = lan.host(1), lan.host(2, bridge=2), lan.host(3)
    config = settings(tmp_path, discovery={"mdns": False})
    start_workers(one, LIGHTBUS_CONFIG=config, API="seed")
    with_seed = {"LIGHTBUS_CONFIG": config, "LIGHTBUS_PEERS": "10.77.1.1:5570"}
    start_workers(two, **with_seed)
    seconds, where = first_call(three, **with_seed)
    assert where == "h2"
    measured("first call into another subnet, by one seed and without multicast", seconds, 1)


def test_a_fixed_peer_by_name_moves(lan: Lan, tmp_path: Path) -> None:
    """A fixed peer with a host name is looked up again after a failure, and found at its new address."""
    one, three = lan.host(1), lan.host(3)
    config = settings(tmp_path, discovery={"mdns": False})
    lan.name(three, {"seed.example": "10.77.1.1"})
    start_workers(one, LIGHTBUS_CONFIG=config)
    caller = start_caller(three, LIGHTBUS_CONFIG=config, LIGHTBUS_PEERS="seed.example:5570", TIMEOUT="2")
    caller.wait_for_line("async h1")
    lan.name(three, {"seed.example": "10.77.1.101"})
    one.ip("addr del 10.77.1.1/24 dev eth0", "addr add 10.77.1.101/24 dev eth0")
    changed = time.time()
    wait_until(lambda: {what for _, what in outcomes(caller, since=changed)} - {"h1"}, 5 * SLACK, "it is lost")
    lost = max(at for at, what in outcomes(caller, since=changed) if what != "h1")
    measured(
        "a seed's name leads elsewhere, until it is called again",
        wait_until_called(caller, "h1", lost) + lost - changed,
        20,
    )


HOG = """
import socket, time
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as hog:
    hog.bind(("", 5353))
    print("taken")
    time.sleep(600)
"""


def test_port_5353_is_taken(lan: Lan, tmp_path: Path) -> None:
    """If another program has the port of multicast DNS exclusively, there is a warning, and fixed peers work."""
    one, two, three = (lan.host(number) for number in (1, 2, 3))
    three.python("-c", HOG).wait_for_line("taken")
    config = settings(tmp_path)
    start_workers(one, LIGHTBUS_CONFIG=config, API="seed")
    start_workers(two)
    watch = Stopwatch()
    worker, caller = (
        start_workers(three, LIGHTBUS_PEERS="10.77.1.1:5570", API="third")[0],
        start_caller(three, ONCE="1", LIGHTBUS_PEERS="10.77.1.1:5570"),
    )
    assert caller.wait(10 * SLACK) == 0
    seconds = uncrowded(float(caller.wait_for_line(r"^first (\S+) h2$")[1]), watch)
    measured("first call by a seed, where port 5353 is taken", seconds, 1)
    for process in (worker, caller):
        process.wait_for_line(
            "zeroconf cannot listen on 10.77.1.3 .*Address already in use.*name a peer: LIGHTBUS_PEERS"
        )
    doctor = three.lightbus("doctor", LIGHTBUS_PEERS="10.77.1.1:5570")
    doctor.wait_for_line("port 5353: cannot be used .*Address already in use", 10 * SLACK)
    doctor.wait_for_line("fixed peers: tcp://10.77.1.1:5570 answers")
    assert doctor.wait() == 2


# --- a bad cable ------------------------------------------------------------------------------------


@pytest.mark.long
def test_a_slow_and_lossy_network(lan: Lan, chaos: random.Random) -> None:
    """With a delay of 100 ms each way and 5 % loss, peers find each other; no call or event is lost."""
    one, three = lan.host(1), lan.host(3)
    with lan.bad_cable(three, delay=0.1, loss=0.05, randomness=chaos):
        worker = start_workers(three, EVERY="0.1")[0]
        began = time.time()
        listener, caller = one.worker("lan_worker", PROGRAMS, API="other"), start_caller(one)
        measured("200 ms, 5 % loss: first call, with all imports", wait_until_called(caller, "h3", began), 4)
        answered = time.time()
        wait_until(lambda: len(outcomes(caller, since=answered)) >= 20, 10 * SLACK, "20 calls are answered")
        assert {outcome for _, outcome in outcomes(caller, since=answered)} == {"h3"}
        seconds = 2 * (time.time() - answered) / len(outcomes(caller, since=answered))
        measured("200 ms, 5 % loss: a call, on average", seconds, 0.5)
        # What was fired before the listener's group began is not owed to it.
        listener.wait_for_line(r"^heard h3 \d+", 10 * SLACK)
        wait_until_all_heard(worker, "h3", listener, since=numbers(listener, "heard", "h3")[0])
        heard = time.time()
        wait_until_all_heard(worker, "h3", listener, since=numbers(worker, "fired", "h3")[-1])
        measured("200 ms, 5 % loss: an event that was just fired", time.time() - heard, 1)
