"""Processes of one user in mode host, with different environments, and after changes of their directories."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from helpers import Process, Processes, wait_until
from helpers.surroundings import Surroundings

SERVICE = """
import lightbus

bus = lightbus.create(service_name="shop")

class ShopApi(lightbus.Api):
    sold = lightbus.Event(["n"])

    class Meta:
        name = "shop"

    def add(self, a: int, b: int) -> int:
        return a + b

bus.client.register_api(ShopApi())
"""

CALL = "import lightbus; print(lightbus.create(service_name='caller').shop.add(a=1, b=2))"

LISTEN = """
import lightbus

bus = lightbus.create(service_name="book")
bus.shop.sold.listen(lambda message, n: print("sold", n, flush=True), listener_name="note")
"""

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root may make namespaces")

NO_MULTICAST = ["unshare", "--net"]
"""A network of its own, in which even loopback is down."""

HOLD = """
import os, socket, subprocess, sys
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
holder = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
holder.bind(("", 5353))
holder.set_inheritable(True)
os.execvp(sys.argv[1], sys.argv[1:])
"""

PORT_IS_HELD = ["unshare", "--net", sys.executable, "-c", HOLD]
"""A network of its own, so that no other test is in need of the port that somebody shares with nobody there."""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Return the directory of a service."""
    (tmp_path / "bus.py").write_text(SERVICE)
    return tmp_path


def start(processes: Processes, shop: Path, *prefix: str, **env: str) -> Process:
    """Start a worker, and return it when it serves."""
    worker = processes.start([*prefix, sys.executable, "-m", "lightbus", "run"], cwd=shop, env=env)
    worker.wait_for_line("Ready")
    return worker


def call(processes: Processes, *prefix: str, **env: str) -> Process:
    """Have a new process make a call, and return it when it has ended."""
    caller = processes.start([*prefix, sys.executable, "-c", CALL], env=env)
    caller.wait(60)
    return caller


def wait_until_nothing_is_wrong(processes: Processes, *prefix: str) -> None:
    """Run the doctor, again if a busy machine prevented a worker from answering within its second."""

    def is_well() -> bool:
        doctor = processes.start([*prefix, sys.executable, "-m", "lightbus", "doctor"])
        return doctor.wait(60) == 0

    wait_until(is_well)


@pytest.mark.parametrize("variable", ["TMPDIR", "XDG_RUNTIME_DIR", "LIGHTBUS_DATA_DIR", "HOME"])
@pytest.mark.parametrize("value", ["", "other"])
def test_processes_of_different_environments_meet(
    processes: Processes, shop: Path, surroundings: Surroundings, variable: str, value: str
) -> None:
    """A caller with another value of a variable than the worker's, or without it, reaches it."""
    other = surroundings.runtime / "o"
    other.mkdir(mode=0o700)
    start(processes, shop)
    caller = call(processes, **{variable: str(other) if value else ""})
    assert caller.stdout == "3\n", caller.stderr


@ROOT
def test_calls_and_events_work_without_loopback(processes: Processes, shop: Path) -> None:
    """With lo down, calls and events work, without a warning."""
    worker = start(processes, shop, *NO_MULTICAST)
    (shop / "book").mkdir()
    (shop / "book" / "bus.py").write_text(LISTEN)
    book = start(processes, shop / "book", *NO_MULTICAST)
    caller = call(processes, *NO_MULTICAST)
    assert caller.output == "3\n"
    fire = processes.start([*NO_MULTICAST, sys.executable, "-m", "lightbus", "fire", "shop.sold", "n=7"])
    assert fire.wait() == 0, fire.stderr
    book.wait_for_line("sold 7")
    assert "WARNING" not in worker.stderr + book.stderr
    wait_until_nothing_is_wrong(processes, *NO_MULTICAST)


@ROOT
@pytest.mark.skipif(shutil.which("ip") is None, reason="there is no `ip` to set up a network with")
def test_port_5353_in_mode_host(processes: Processes, shop: Path) -> None:
    """Another program's exclusive use of the port has no effect in mode host."""
    worker = start(processes, shop, *PORT_IS_HELD)
    assert call(processes, *PORT_IS_HELD).output == "3\n"
    assert "WARNING" not in worker.stderr
    wait_until_nothing_is_wrong(processes, *PORT_IS_HELD)


@ROOT
@pytest.mark.skipif(Path(sys.prefix).is_relative_to("/tmp"), reason="the Python to test with is below /tmp itself")
def test_processes_that_cannot_meet_get_the_reason(
    processes: Processes, shop: Path, surroundings: Surroundings
) -> None:
    """With a private /tmp, and no other common directory, both sides' directories are named, and the setting."""
    private = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs tmpfs /tmp && cd / && exec "$@"', "sh"]
    for name in ("a", "b"):
        Path(f"/var/tmp/{surroundings.bus}-{name}").mkdir(mode=0o700)
    try:
        env = {"XDG_RUNTIME_DIR": "", "TMPDIR": "", "PYTHONPATH": "/var/tmp"}
        worker = processes.start(
            [*private, sys.executable, "-c", f"{SERVICE}bus.client.run_forever()"],
            env={**env, "LIGHTBUS_DATA_DIR": f"/var/tmp/{surroundings.bus}-a"},
        )
        wait_until(lambda: list(Path("/var/tmp").glob(f"{surroundings.bus}-a/.sockets-*/*/*.peer")), what="it serves")
        shutil.rmtree(next(Path("/var/tmp").glob(f"{surroundings.bus}-a/.sockets-*")))
        there = {**env, "LIGHTBUS_DATA_DIR": f"/var/tmp/{surroundings.bus}-b"}
        Path(f"/var/tmp/{surroundings.bus}-a").chmod(0o755)
        caller = call(processes, **there)
        if caller.stdout == "3\n":
            pytest.skip("the worker's directories are seen here")
        assert "PeerUnreachable" in caller.stderr
        assert f"/tmp/lightbus-{os.geteuid()}" in caller.stderr
        assert f"/var/tmp/{surroundings.bus}-b" in caller.stderr
        assert "set XDG_RUNTIME_DIR to the same one for both" in caller.stderr
        assert worker.running
    finally:
        for name in ("a", "b"):
            shutil.rmtree(f"/var/tmp/{surroundings.bus}-{name}", ignore_errors=True)


@pytest.mark.parametrize("what", ["files", "directories"])
def test_removed_sockets_are_made_again(
    processes: Processes, shop: Path, surroundings: Surroundings, what: str
) -> None:
    """All sockets of a worker are removed: it logs that, and new processes reach it within seconds."""
    worker = start(processes, shop)
    assert call(processes).output == "3\n"
    uid = os.geteuid()
    places = [
        Path(f"/tmp/lightbus-{uid}") / surroundings.bus,
        surroundings.data / f".sockets-{uid}" / surroundings.bus,
        surroundings.runtime / "lightbus" / surroundings.bus,
        Path(f"/run/user/{uid}/lightbus") / surroundings.bus,
    ]
    for place in places:
        if what == "directories":
            shutil.rmtree(place, ignore_errors=True)
        for file in place.glob("*"):
            file.unlink(missing_ok=True)
    worker.wait_for_line("were removed by another program, and are created again")
    wait_until(lambda: list(places[0].glob("*.peer")), what="it is written down anew")
    assert call(processes).output == "3\n"
    worker.ask_to_end()
    assert worker.wait() == 0
