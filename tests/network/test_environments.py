"""Workers and callers where an environment lacks what others have: a home, a name, a disk, a right."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from helpers import Process, Processes
from helpers.surroundings import Surroundings

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may make such environments")

CALLS = """
import lightbus

bus = lightbus.create(service_name="shop", process_name="{hostname}-{pid}")

class ShopApi(lightbus.Api):
    class Meta:
        name = "shop"

    def add(self, a: int, b: int) -> int:
        return a + b

bus.client.register_api(ShopApi())
"""

CALL = "import lightbus; print(lightbus.create(service_name='caller').shop.add(a=1, b=2))"

STRANGER = ["setpriv", "--reuid", "12345", "--regid", "12345", "--clear-groups"]
"""A user that the system's list does not have."""

NOWHERE = {
    "HOME": "",
    "XDG_CONFIG_HOME": "",
    "LIGHTBUS_DATA_DIR": "",
    "XDG_DATA_HOME": "",
    "XDG_RUNTIME_DIR": "",
    "TMPDIR": "",
}


@pytest.fixture
def shop(surroundings: Surroundings, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the directory of a service that everybody may read."""
    for name in ("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG"):
        monkeypatch.delenv(name, raising=False)  # it would want to write where nobody may
    directory = surroundings.runtime / "shop"
    for path in (surroundings.runtime.parent, surroundings.runtime):
        path.chmod(0o755)
    directory.mkdir()
    (directory / "bus.py").write_text(CALLS)
    return directory


def serves(processes: Processes, shop: Path, prefix: list[str], **env: str) -> Process:
    """Start a worker, have it called by another process of the kind, and return it."""
    env = {"PYTHONDONTWRITEBYTECODE": "1", **env}
    worker = processes.start([*prefix, sys.executable, "-m", "lightbus", "run"], cwd=shop, env=env)
    worker.wait_for_line("Ready")
    caller = processes.start([*prefix, sys.executable, "-c", CALL], cwd=shop, env=env)
    caller.wait(60)
    assert caller.output == "3\n"
    assert "Traceback" not in worker.output
    return worker


def test_no_home_and_no_name(processes: Processes, shop: Path, surroundings: Surroundings) -> None:
    """A container's arbitrary user without HOME: calls work, without a word of warning."""
    try:
        worker = serves(processes, shop, STRANGER, **NOWHERE)
        assert "WARNING" not in worker.output
        assert "ERROR" not in worker.output
    finally:
        for path in Path("/tmp/lightbus-12345").glob(f"{surroundings.bus}/*"):
            path.unlink()


def test_an_event_without_a_home(processes: Processes, shop: Path) -> None:
    """An event has to be kept somewhere: one error says what to set."""
    code = "import lightbus; " + CALLS.replace("    class Meta", "    sold = lightbus.Event(['n'])\n\n    class Meta")
    (shop / "fire.py").write_text(f"{code}\nbus.shop.sold.fire(n=1)\n")
    script = processes.start([*STRANGER, sys.executable, "fire.py"], cwd=shop, env=NOWHERE)
    script.wait(60)
    assert "JournalError" in script.stderr.splitlines()[-1]
    assert "LIGHTBUS_DATA_DIR" in script.stderr.splitlines()[-1]


@pytest.mark.parametrize("name", ["", "b\u00fcro", "x" * 64, "(none)"])
def test_host_names(processes: Processes, shop: Path, name: str) -> None:
    """A host without a name, with one in another alphabet, or with the longest there can be."""
    set_name = "import socket, os, sys; socket.sethostname(sys.argv[1]); os.execv(sys.argv[2], sys.argv[2:])"
    prefix = ["unshare", "--uts", sys.executable, "-c", set_name, name]
    serves(processes, shop, prefix)


@pytest.mark.parametrize("umask", ["000", "077", "0777"])
def test_umasks(processes: Processes, shop: Path, umask: str) -> None:
    """Whatever a process takes from the rights of new files."""
    serves(processes, shop, ["sh", "-c", f'umask {umask}; exec "$@"', "sh"])


@pytest.mark.parametrize("writable", ["LIGHTBUS_DATA_DIR", "XDG_RUNTIME_DIR", "TMPDIR", None])
def test_read_only_root(processes: Processes, shop: Path, writable: str | None) -> None:
    """One volume that can be written to is enough, whichever variable names it; without any one line says so."""
    volume = shop.parent / "v"
    volume.mkdir(mode=0o700)
    made = (
        f"mount --make-rprivate / && mount -t tmpfs tmpfs {volume} && chmod 700 {volume} && "
        'mount -o remount,bind,ro / && exec "$@"'
    )
    prefix = ["unshare", "--mount", "--kill-child", "sh", "-c", made, "sh"]
    env = {**NOWHERE, "HOME": "/", "PYTHONDONTWRITEBYTECODE": "1"}
    if writable is not None:
        env[writable] = str(volume)
    worker = processes.start([*prefix, sys.executable, "-m", "lightbus", "run"], cwd=shop, env=env)
    if writable is not None:
        worker.wait_for_line("Ready")
        return
    assert worker.wait() == 2
    (line,) = [each for each in worker.stderr.splitlines() if each.startswith("Error: ")]
    assert "set XDG_RUNTIME_DIR to a directory of this user's own" in line
    assert "Traceback" not in worker.stderr


def test_home_of_another_user(processes: Processes, shop: Path, tmp_path: Path) -> None:
    """What root does with another user's HOME leaves nothing there that this user could not write to."""
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, 12345, 12345)
    serves(processes, shop, [], HOME=str(home), XDG_CONFIG_HOME="")
    assert [*home.rglob("*")] == []


def test_no_disk(processes: Processes, shop: Path) -> None:
    """Who only answers calls needs no directory for events, and says nothing of it."""
    worker = serves(
        processes, shop, STRANGER, **{**NOWHERE, "HOME": "/", "LIGHTBUS_DATA_DIR": "/nobody-may-write-here"}
    )
    assert "journal" not in worker.output
