"""The directories of a user's sockets: which they are, that no other user has access, and cleaning them up."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import zmq

from helpers.surroundings import Surroundings
from lightbus.adapters.host import places
from lightbus.adapters.host.places import (
    LONGEST_NAME,
    MAX_SOCKET_PATH,
    Places,
    is_trusted,
    places_of_user,
    remove_stale,
    remove_stale_files,
)
from lightbus.exceptions import InvalidConfiguration

LATER = 60.0
"""Seconds after which a socket file made in a test is old enough to be looked at."""

INSTANCE = "4f2a00112233445d"


@pytest.fixture
def run(surroundings: Surroundings) -> Path:
    """Return a directory with a path short enough for sockets."""
    return surroundings.runtime


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


def made(run: Path, bus: str = "demo") -> Path:
    """Create the directory of a bus below `run`, and return it."""
    found = Places(bus, [run / "lightbus"])
    (place,) = found.candidates()
    found.make(place)
    return place


# Choosing directories


def test_places_of_a_user(run: Path) -> None:
    """Permanent ones first: /tmp, beside the kept events, those of the login, then TMPDIR's."""
    uid = os.geteuid()
    environ = {"XDG_RUNTIME_DIR": str(run), "TMPDIR": str(run / "tmp")}
    found = places_of_user("demo", run / "data", environ)
    assert found.last_resort == run / "tmp" / f"lightbus-{uid}" / "demo"
    assert found.candidates() == [
        Path(f"/tmp/lightbus-{uid}/demo"),
        run / "data" / f".sockets-{uid}" / "demo",
        run / "lightbus" / "demo",
        Path(f"/run/user/{uid}/lightbus/demo"),
        run / "tmp" / f"lightbus-{uid}" / "demo",
    ]


@pytest.mark.parametrize("environ", [{}, {"XDG_RUNTIME_DIR": "relative", "TMPDIR": "relative"}, {"HOME": "/nowhere"}])
def test_one_place_does_not_depend_on_the_environment(run: Path, environ: dict[str, str]) -> None:
    """Whatever environment a process has, it looks where the others are."""
    one = places_of_user("demo", run / "data", environ).candidates()
    other = places_of_user("demo", run / "elsewhere", {"XDG_RUNTIME_DIR": str(run), "TMPDIR": str(run)}).candidates()
    assert {*one} & {*other} >= {Path(f"/tmp/lightbus-{os.geteuid()}/demo")}


def test_runtime_directory_of_another_user_is_not_used(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `sudo` leaves in the environment does not lead into another user's directory."""
    monkeypatch.setattr(places.os, "geteuid", lambda: os.getuid() + 1)
    found = places_of_user("demo", run / "data", {"XDG_RUNTIME_DIR": str(run)}).candidates()
    assert run / "lightbus" / "demo" not in found


def test_shared_data_directory_is_not_used_for_sockets(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process behind another host's socket would be taken for ended."""
    monkeypatch.setattr(places, "is_shared", lambda path: True)
    assert not [path for path in places_of_user("demo", run, {}).candidates() if path.is_relative_to(run)]


@pytest.mark.parametrize("bus", ["../escape", "a/b", ".", "..", "", "~0123456789ab", "naïve", "nul\0", "x" * 200])
def test_bus_name_that_is_no_file_name_is_replaced(run: Path, bus: str) -> None:
    """A bus name never leads out of the directory, nor to a path too long for a socket."""
    place = made(run, bus)
    assert place.parent == run / "lightbus"
    assert place.name.startswith("~")
    assert place.name != bus
    assert len(os.fsencode(place / LONGEST_NAME)) <= MAX_SOCKET_PATH


def test_buses_do_not_share_a_directory(run: Path) -> None:
    """Names that are replaced stay different."""
    assert made(run, "x" * 200) != made(run, "x" * 201)


def test_path_too_long_for_any_socket_is_left_out(run: Path) -> None:
    """If not even a digest fits, this directory is left out; the others are used."""
    assert Places("demo", [run / ("d" * 80), run]).candidates() == [run / "demo"]


# Permissions


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o277])
def test_directories_are_private(run: Path, umask: int) -> None:
    """Only this user can access both levels, whatever the umask."""
    before = os.umask(umask)
    try:
        place = made(run)
    finally:
        os.umask(before)
    assert [mode_of(place), mode_of(place.parent)] == [0o700, 0o700]
    assert Places("demo", [run / "lightbus"]).there() == [place]


def test_directory_open_to_others_is_refused(run: Path) -> None:
    """A directory that others can enter is neither used nor read; the message says how to close it."""
    place = made(run)
    (run / "lightbus").chmod(0o750)
    with pytest.raises(InvalidConfiguration, match="is open to other users; run: chmod 700"):
        made(run)
    found = Places("demo", [run / "lightbus"])
    assert found.there() == []
    assert "is open to other users" in found.problems()[place]


def test_symlink_is_refused(run: Path) -> None:
    """A symlink in place of the directory may be a trap."""
    (run / "elsewhere").mkdir(mode=0o700)
    (run / "lightbus").symlink_to(run / "elsewhere")
    with pytest.raises(InvalidConfiguration, match="is a symlink or a file; remove it"):
        made(run)


def test_directory_of_another_user_is_refused(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory that another user created first is not used."""
    made(run)
    user = os.geteuid()
    monkeypatch.setattr(places.os, "geteuid", lambda: user + 1)
    with pytest.raises(InvalidConfiguration, match=f"belongs to user {user}, not to {user + 1}"):
        places._make_private(run / "lightbus")


def test_uncreatable_directory_is_refused(run: Path) -> None:
    """The message has the file system's error; a removed login directory is not created."""
    with pytest.raises(InvalidConfiguration, match=r"cannot be made \(No such file or directory\)"):
        made(run / "gone")
    assert not (run / "gone").exists()


def test_creatable_directory_is_no_problem(run: Path) -> None:
    """For a new user no directory exists yet, and each can be created."""
    found = Places("demo", [run / "lightbus"])
    assert found.problems() == {run / "lightbus" / "demo": ""}
    found.make(run / "lightbus" / "demo")
    assert found.problems() == {run / "lightbus" / "demo": ""}


# Finding an instance


def test_sockets_are_looked_for_everywhere(run: Path) -> None:
    """Each directory with a socket of an instance gives an endpoint, in the order of the directories."""
    found = Places("demo", [run / "one", run / "two"])
    for place in found.candidates():
        found.make(place)
    assert found.endpoints(INSTANCE) == ()
    (run / "two" / "demo" / f"{INSTANCE}.rpc").touch()
    assert found.endpoints(INSTANCE) == (f"ipc://{run}/two/demo/{INSTANCE}.rpc",)


def test_announced_directory_is_used_if_trusted(run: Path) -> None:
    """If no other user can have put a socket there."""
    (run / "theirs").mkdir(mode=0o700)
    (run / "theirs" / f"{INSTANCE}.rpc").touch()
    found = Places("demo", [run / "mine"])
    assert found.endpoints(INSTANCE, str(run / "theirs")) == (f"ipc://{run}/theirs/{INSTANCE}.rpc",)
    assert found.why_not(INSTANCE, str(run / "theirs")) == ""
    (run / "theirs").chmod(0o755)
    assert found.endpoints(INSTANCE, str(run / "theirs")) == ()


def test_a_directory_that_others_can_move_is_not_trusted(run: Path) -> None:
    """Each directory above it belongs to root or to us, and no other user may write there; /tmp has the sticky bit."""
    inner = run / "open" / "inner"
    inner.mkdir(parents=True)
    inner.chmod(0o700)
    (run / "open").chmod(0o700)
    assert is_trusted(str(inner))
    (run / "open").chmod(0o777)
    assert not is_trusted(str(inner))


UNREACHABLE = """
import pathlib, sys
from lightbus.adapters.host.places import Places
found, elsewhere = Places("demo", [pathlib.Path(sys.argv[1])]), "/tmp/\\u0416"
assert sys.getfilesystemencoding() == "ascii"
assert (found.endpoints("0" * 16, elsewhere), found.would_see(elsewhere)) == ((), False)
assert f"its sockets are in {elsewhere}, and this process sees none" in found.why_not("0" * 16, elsewhere)
"""


@pytest.mark.skipif(sys.platform == "darwin", reason="file names are UTF-8 in any locale on macOS")
def test_directory_that_no_file_name_can_have(run: Path) -> None:
    """In a locale without UTF-8: whoever announces it is not reachable here, and nothing fails."""
    without = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}
    command = [sys.executable, "-c", UNREACHABLE, str(run)]
    done = subprocess.run(command, env={**os.environ, **without}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_reason_for_an_unreachable_instance(run: Path) -> None:
    """It names both directories, and what to set; or another user's directory."""
    found = Places("demo", [run / "mine"])
    said = found.why_not(INSTANCE, "/somewhere/else")
    assert "/somewhere/else" in said
    assert str(run / "mine" / "demo") in said
    assert "XDG_RUNTIME_DIR" in said
    assert "PrivateTmp" in said
    if os.geteuid() == 0:
        os.chown(run, 12345, 12345)
        assert "which belongs to user 12345" in found.why_not(INSTANCE, str(run))


# Removing stale files


@pytest.fixture
def live(run: Path) -> Iterator[Path]:
    """Return the path of a socket with a listener."""
    with closing(socket.socket(socket.AF_UNIX)) as listening:
        listening.bind(str(run / "live.rpc"))
        listening.listen(1)
        yield run / "live.rpc"


def abandoned(path: Path) -> Path:
    """Leave the socket file of an ended process at `path`."""
    with closing(socket.socket(socket.AF_UNIX)) as dead:
        dead.bind(str(path))
        dead.listen(1)
    return path


def test_stale_files_are_removed_and_live_ones_are_not(run: Path, live: Path) -> None:
    """Sockets without a listener are removed, and the files beside them; nothing else."""
    dead = abandoned(run / "dead.rpc")
    (run / "notes.rpc").write_text("no socket")
    (run / "gone.peer").write_text("{}")
    (run / "live.peer").write_text("{}")
    (run / "link.rpc").symlink_to(dead)

    removed = remove_stale(run, now=time.time() + LATER)

    assert sorted(removed) == [dead, run / "gone.peer"]
    assert sorted(path.name for path in run.iterdir()) == ["link.rpc", "live.peer", "live.rpc", "notes.rpc"]


def test_files_beside_a_stale_socket_are_removed(run: Path) -> None:
    """In any order in which the file system lists them."""
    for number in range(20):
        (run / f"before-{number}.peer").write_text("{}")
        for name in ("before", "after"):
            abandoned(run / f"{name}-{number}.rpc")
        (run / f"after-{number}.peer").write_text("{}")
    remove_stale(run, now=time.time() + LATER)
    assert list(run.iterdir()) == []


def test_directories_of_other_buses_are_cleaned(run: Path) -> None:
    """Files of killed processes on an unused bus are removed by others; its directory once it is old."""
    place, other, old = (made(run, bus) for bus in ("demo", "other", "old"))
    dead = abandoned(other / "dead.rpc")
    os.utime(dead, (time.time() - LATER,) * 2)
    os.utime(old, (time.time() - 2 * places.EMPTY_FOR,) * 2)
    remove_stale_files(place)
    assert not dead.exists()
    assert sorted(path.name for path in place.parent.iterdir()) == ["demo", "other"]


def test_socket_with_a_full_backlog_is_live(run: Path, live: Path) -> None:
    """A worker too busy to accept connections keeps its socket."""
    with closing(socket.socket(socket.AF_UNIX)) as first, closing(socket.socket(socket.AF_UNIX)) as second:
        for waiting in (first, second):
            waiting.setblocking(False)
            waiting.connect(str(live))

        assert remove_stale(run, now=time.time() + LATER) == []


def test_ended_instance_is_recognised(run: Path, live: Path) -> None:
    """If each of its sockets refuses; not while one is served, nor without any."""
    place = made(run)
    found = Places.only(place)
    assert not found.has_ended(INSTANCE)
    abandoned(place / f"{INSTANCE}.rpc")
    assert found.has_ended(INSTANCE)
    (place / "live.rpc").symlink_to(live)
    assert not found.has_ended("live")


def test_young_socket_is_left_alone(run: Path) -> None:
    """A recently bound socket may be about to listen."""
    young = abandoned(run / "young.rpc")

    assert remove_stale(run) == []
    assert young.exists()


def test_zeromq_socket_in_the_directory_is_live(run: Path) -> None:
    """A bound ZeroMQ socket accepts the probe, and works after it."""
    place = made(run)
    endpoint = f"ipc://{place}/{INSTANCE}.rpc"
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router, context.socket(zmq.DEALER) as dealer:
        dealer.linger = router.linger = 0
        router.bind(endpoint)

        assert remove_stale(place, now=time.time() + LATER) == []
        dealer.connect(endpoint)
        dealer.send(b"still there")
        assert router.poll(5000)
