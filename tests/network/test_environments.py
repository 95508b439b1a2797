"""Workers and callers in environments without common things: a home, a name, a disk, a permission."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from helpers import Process, Processes
from helpers.forking import Place
from helpers.surroundings import Surroundings

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may make such environments")

SHOP = """
import lightbus

bus = lightbus.create(service_name="shop", process_name="{hostname}-{pid}")

class ShopApi(lightbus.Api):
    class Meta:
        name = "shop"

    def add(self, a: int, b: int) -> int:
        return a + b

bus.client.register_api(ShopApi())
"""

SELLING = SHOP.replace("    class Meta", "    sold = lightbus.Event(['n'])\n\n    class Meta")

MAIL = """
import lightbus

bus = lightbus.create(service_name="mail")

@bus.client.on_start()
def on_start():
    bus.shop.sold.listen(blocking)
    bus.shop.sold.listen(on_the_loop)

def blocking(event_message, n):
    print(f"{n}: blocking\\n", end="", flush=True)  # at once, and not the end of the line for itself

async def on_the_loop(event_message, n):
    print(f"{n}: on the loop\\n", end="", flush=True)
"""

CALL = """
import asyncio, lightbus

bus = lightbus.create(service_name="caller")
print(bus.shop.add(a=1, b=2))
print(asyncio.run(bus.shop.add.call_async(a=1, b=2)))
"""

FIRE = "import lightbus, sys; lightbus.create(service_name='till').shop.sold.fire(n=int(sys.argv[1]))"

STRANGER = Place(user=12345)
"""A user that the system's list does not have."""

NOWHERE = {
    "HOME": "",
    "XDG_CONFIG_HOME": "",
    "LIGHTBUS_DATA_DIR": "",
    "XDG_DATA_HOME": "",
    "XDG_RUNTIME_DIR": "",
    "TMPDIR": "",
}


class FirstProcess(Place):
    """An environment in which each program is the first process of its namespace."""

    def command(self, argv: list[str]) -> list[str]:
        return ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", *argv]


def on_read_only_root(volume: Path) -> Place:
    """Return an environment with a single writable directory, for any process."""
    return Place(mounts=(f"mount --bind {volume} {volume}", "mount -o remount,bind,ro /"))


@pytest.fixture
def shop(surroundings: Surroundings, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the directory of a service that every user may read."""
    for name in ("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG"):
        monkeypatch.delenv(name, raising=False)  # it would want to write where nobody may
    directory = surroundings.runtime / "shop"
    for path in (surroundings.runtime.parent, surroundings.runtime):
        path.chmod(0o755)
    directory.mkdir()
    (directory / "bus.py").write_text(SHOP)
    return directory


@pytest.fixture
def volume(shop: Path) -> Path:
    """Return an empty directory that belongs to this user alone."""
    volume = shop.parent / "v"
    volume.mkdir(mode=0o700)
    return volume


def lightbus_in(
    processes: Processes, directory: Path, place: Place, *args: str, anew: bool = False, **env: str
) -> Process:
    """Start the command line in an environment."""
    argv = [sys.executable, "-m", "lightbus", *args]
    return processes.start(argv, cwd=directory, env=env, host=place, anew=anew)


def code_in(processes: Processes, directory: Path, place: Place, *code: str, **env: str) -> Process:
    """Run code, or a script, in an environment, and return it when it has ended."""
    return ended(processes.start([sys.executable, *code], cwd=directory, env=env, host=place))


def ended(process: Process) -> Process:
    """Wait for the end of a program, and return it."""
    process.wait()
    return process


def stop(worker: Process) -> None:
    """Stop a worker, which may be the first process of its namespace."""
    itself = Path(f"/proc/{worker.pid}")
    is_inside = (itself / "comm").read_text().strip() == "unshare"
    inside = (itself / "task" / str(worker.pid) / "children").read_text().split() if is_inside else []
    os.kill(int(inside[0]) if inside else worker.pid, signal.SIGTERM)
    assert worker.wait() == 0, worker.report()
    assert "Traceback" not in worker.output


def serves(processes: Processes, shop: Path, place: Place, *, anew: bool = False, **env: str) -> Process:
    """
    Start a worker, let another such process call it and look for it, and return it.

    With `anew` the worker is a new interpreter, which shows that Python itself starts there; the others are copies.
    """
    worker = lightbus_in(processes, shop, place, "run", anew=anew, **env)
    worker.wait_for_line("Ready")
    caller = code_in(processes, shop, place, "-c", CALL, **env)
    assert caller.output == "3\n3\n"
    looks(processes, shop, place, **env)
    assert "Traceback" not in worker.output
    return worker


def looks(processes: Processes, directory: Path, place: Place, **env: str) -> None:
    """Let an operator's commands find the worker there."""
    peers = ended(lightbus_in(processes, directory, place, "peers", **env))
    assert "shop" in peers.stdout, peers.report()
    doctor = ended(lightbus_in(processes, directory, place, "doctor", **env))
    assert "bus: " in doctor.stdout, doctor.report()
    assert "Traceback" not in peers.output + doctor.output


def keeps_events(processes: Processes, shop: Path, place: Place, **env: str) -> None:
    """Let a worker publish, and another listen, which also gets the events fired while it was stopped."""
    (shop / "bus.py").write_text(SELLING)
    mail = shop.parent / "mail"
    mail.mkdir()
    (mail / "bus.py").write_text(MAIL)
    seller = serves(processes, shop, place, **env)
    for number in ("1", "2"):
        if number == "2":
            fires(processes, shop, place, number, **env)
        listener = lightbus_in(processes, mail, place, "run", **env)
        if number == "1":
            listener.wait_for_line("Events of shop .* arrive")
            fires(processes, shop, place, number, **env)
        listener.wait_for_line(f"^{number}: blocking$")
        listener.wait_for_line(f"^{number}: on the loop$")
        stop(listener)
    stop(seller)


def fires(processes: Processes, shop: Path, place: Place, number: str, **env: str) -> None:
    """Let a script fire an event."""
    assert code_in(processes, shop, place, "-c", FIRE, number, **env).output == ""


def cannot_keep(processes: Processes, shop: Path, place: Place, **env: str) -> None:
    """Let a script fire an event that it cannot store: the last line names the setting."""
    (shop / "fire.py").write_text(f"{SELLING}\nbus.shop.sold.fire(n=1)\n")
    script = code_in(processes, shop, place, "fire.py", **env)
    assert "JournalError" in script.stderr.splitlines()[-1]
    assert "LIGHTBUS_DATA_DIR" in script.stderr.splitlines()[-1]


def owned_by_stranger(directory: Path) -> str:
    """Give a directory to a user without an entry in the system's list, and return it."""
    os.chown(directory, 12345, 12345)
    return str(directory)


NO_HOME = {
    "stranger": STRANGER,
    "stranger, HOME not set": STRANGER._replace(without=("HOME",)),
    "root": Place(
        mounts=(
            "mount --bind /dev/null /etc/passwd",
            "[ ! -e /etc/nsswitch.conf ] || mount --bind /dev/null /etc/nsswitch.conf",
        )
    ),
}
"""Users that the system's list does not have, and that have no home. Root could make one anywhere."""


@pytest.mark.parametrize("place", NO_HOME.values(), ids=NO_HOME)
def test_no_home_and_no_name(processes: Processes, shop: Path, place: Place) -> None:
    """A container's arbitrary user without HOME: calls work, without a warning."""
    worker = serves(processes, shop, place, anew=True, **NOWHERE)
    assert "WARNING" not in worker.output
    assert "ERROR" not in worker.output


@pytest.mark.new_interpreters
@pytest.mark.parametrize("place", NO_HOME.values(), ids=NO_HOME)
def test_an_event_without_a_home(processes: Processes, shop: Path, place: Place) -> None:
    """An event must be stored somewhere: one error names the setting."""
    cannot_keep(processes, shop, place, **NOWHERE)


@pytest.mark.parametrize("place", [NO_HOME["stranger"], NO_HOME["root"]], ids=["stranger", "root"])
def test_events_without_a_home(processes: Processes, shop: Path, volume: Path, place: Place) -> None:
    """With a directory they are stored there, whether HOME is empty or not set."""
    keeps_events(
        processes,
        shop,
        place,
        **{**NOWHERE, "LIGHTBUS_DATA_DIR": str(volume) if place == NO_HOME["root"] else owned_by_stranger(volume)},
    )


@pytest.mark.parametrize("name", ["", "b\u00fcro", os.fsdecode(b"b\xfcro"), "x" * 64, "(none)"])
def test_unusual_host_names_work(processes: Processes, shop: Path, name: str) -> None:
    """A host without a name, with one in another alphabet, or with the longest possible one."""
    keeps_events(processes, shop, Place(hostname=name))


@pytest.mark.new_interpreters
def test_first_processes_of_containers_share_a_bus(processes: Processes, shop: Path) -> None:
    """Each is the first process of its namespace, as in a container, and they have the same number."""
    keeps_events(processes, shop, FirstProcess())


@pytest.mark.parametrize("umask", ["000", "077", "0777"])
def test_kept_files_are_private_under_any_umask(processes: Processes, shop: Path, volume: Path, umask: str) -> None:
    """Whatever the umask of a process is, its files can only be used by its user."""
    volume.chmod(0o755)
    keeps_events(
        processes, shop, Place(umask=int(umask, 8)), LIGHTBUS_DATA_DIR=str(volume / "data"), XDG_RUNTIME_DIR=""
    )
    [made] = volume.iterdir()
    assert made.stat().st_mode & 0o077 == 0
    assert [*made.rglob("*.sqlite")]


@pytest.mark.parametrize("writable", ["LIGHTBUS_DATA_DIR", "XDG_RUNTIME_DIR", "TMPDIR"])
def test_read_only_root(processes: Processes, shop: Path, volume: Path, writable: str) -> None:
    """One writable directory is enough for calls, with any of the variables."""
    # As copies: that Python itself starts on such a root is seen in the tests below.
    env = {**NOWHERE, "HOME": "/", writable: str(volume)}
    serves(processes, shop, on_read_only_root(volume), **env)


def test_events_on_a_read_only_root(processes: Processes, shop: Path, volume: Path) -> None:
    """A writable data directory is enough for events, too."""
    env = {**NOWHERE, "HOME": "/", "LIGHTBUS_DATA_DIR": str(volume)}
    keeps_events(processes, shop, on_read_only_root(volume), **env)


@pytest.mark.new_interpreters
def test_an_event_on_a_read_only_root(processes: Processes, shop: Path, volume: Path) -> None:
    """Without one, the error names the setting."""
    env = {**NOWHERE, "HOME": "/", "XDG_RUNTIME_DIR": str(volume)}
    cannot_keep(processes, shop, on_read_only_root(volume), **env)


@pytest.mark.new_interpreters
def test_several_workers_on_a_read_only_root(processes: Processes, shop: Path, volume: Path) -> None:
    """Several workers need no other directory for their supervisor's sockets."""
    env = {**NOWHERE, "HOME": "/", "XDG_RUNTIME_DIR": str(volume)}
    supervisor = lightbus_in(processes, shop, on_read_only_root(volume), "run", "--workers", "2", **env)
    supervisor.wait_for_line("All 2 workers serve")
    stop(supervisor)
    assert [*volume.rglob("lightbus-*")] == []


@pytest.mark.new_interpreters
@pytest.mark.parametrize("command", [("run",), ("run", "--workers", "2"), ("peers",), ("doctor",)], ids=" ".join)
def test_nothing_can_be_written(processes: Processes, shop: Path, volume: Path, command: tuple[str, ...]) -> None:
    """Without a writable directory, one line names the setting, and commands report that or find no peers."""
    place = Place(mounts=("mount -o remount,bind,ro /",))
    done = ended(lightbus_in(processes, shop, place, *command, **{**NOWHERE, "HOME": "/"}))
    assert "Traceback" not in done.output
    if command[0] == "run":
        assert done.wait() == 2
        [line] = [each for each in done.stderr.splitlines() if each.startswith("Error: ")]
        assert "set " in line
    if command == ("doctor",):
        assert "error" in done.stdout
        assert "set XDG_RUNTIME_DIR" in " ".join(done.stdout.split()).replace("Set", "set")


def test_home_of_another_user(processes: Processes, shop: Path, tmp_path: Path) -> None:
    """If root uses another user's HOME, it leaves nothing there that this user could not write to."""
    home, own, users = tmp_path / "home", tmp_path / "own", tmp_path / "passwd"
    home.mkdir()
    own.mkdir(mode=0o700)
    users.write_text(f"root:x:0:0:root:{own}:/bin/sh\n")
    os.chown(home, 12345, 12345)
    env = {**NOWHERE, "HOME": str(home)}
    keeps_events(processes, shop, Place(mounts=(f"mount --bind {users} /etc/passwd",)), **env)
    assert [*home.rglob("*")] == []
    assert [*own.rglob("*.sqlite")]


def test_a_data_directory_that_may_not_be_entered(processes: Processes, shop: Path, volume: Path) -> None:
    """In another user's directory, where even to ask what is there is refused: calls work, events name the setting."""
    env = {**NOWHERE, "LIGHTBUS_DATA_DIR": str(volume / "data")}
    (shop / "bus.py").write_text(SELLING)  # a worker that would store events
    serves(processes, shop, STRANGER, **env)
    cannot_keep(processes, shop, STRANGER, **env)


def test_a_home_whose_name_is_not_utf8(processes: Processes, shop: Path, volume: Path) -> None:
    """Events are stored there, the sockets are elsewhere, and what a worker tells about its files can be sent."""
    home = volume / os.fsdecode(b"b\xfcro")
    home.mkdir(mode=0o700)
    env = {**NOWHERE, "HOME": str(home)}
    (shop / "bus.py").write_text(SELLING)
    seller = serves(processes, shop, Place(), **env)
    fires(processes, shop, Place(), "1", **env)
    doctor = ended(lightbus_in(processes, shop, Place(), "doctor", **env))
    assert "cannot be sent" not in doctor.output
    assert [*home.rglob("*.sqlite")]
    stop(seller)


def test_home_of_another_user_without_a_name(processes: Processes, shop: Path, volume: Path) -> None:
    """A user without an entry in the list, with a HOME that is not writable: calls work."""
    volume.chmod(0o755)
    serves(processes, shop, STRANGER, anew=True, **{**NOWHERE, "HOME": str(volume)})
    cannot_keep(processes, shop, STRANGER, **{**NOWHERE, "HOME": str(volume)})


@pytest.mark.new_interpreters
@pytest.mark.parametrize("command", ["run", "peers", "doctor"])
def test_unreadable_home(processes: Processes, shop: Path, volume: Path, command: str) -> None:
    """Whether there is a key is unknown, and without it another bus would be used: the error says so."""
    done = ended(lightbus_in(processes, shop, STRANGER, command, **{**NOWHERE, "HOME": str(volume)}))
    assert done.wait() == 2
    [line] = done.stderr.splitlines()
    assert line.startswith("Error: The ")
    assert "cannot be read: Permission denied" in line
    assert "set HOME" in line


def test_worker_without_events_needs_no_directory(processes: Processes, shop: Path) -> None:
    """A worker that only answers calls needs no directory for events, and does not mention it."""
    env = {**NOWHERE, "HOME": "/", "LIGHTBUS_DATA_DIR": "/nobody-may-write-here"}
    worker = serves(processes, shop, STRANGER, anew=True, **env)
    assert "journal" not in worker.output
