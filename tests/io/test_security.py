from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import zmq

from helpers.surroundings import Surroundings
from lightbus.exceptions import InvalidConfiguration, UnsupportedUse
from lightbus.io import security
from lightbus.io.security import (
    LONGEST_NAME,
    MAX_SOCKET_PATH,
    HostSecurity,
    InsecureSecurity,
    Security,
    check_platform,
    remove_stale,
    runtime_directory,
)

LATER = 60.0
"""Seconds after which a socket file made in a test is old enough to be looked at."""

HOST = HostSecurity(directory=Path("/run/user/1000/lightbus/demo"))
INSECURE = InsecureSecurity(bus="demo", addresses=("192.0.2.7",))


@pytest.fixture
def run(surroundings: Surroundings) -> Path:
    """Return a directory with a path short enough for sockets."""
    return surroundings.runtime


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_directory_is_below_the_runtime_directory_and_private(run: Path) -> None:
    """The sockets of a bus are in $XDG_RUNTIME_DIR/lightbus/<bus>, which nobody else can enter."""
    made = runtime_directory("demo")

    assert made == run / "lightbus" / "demo"
    assert [mode_of(made), mode_of(made.parent)] == [0o700, 0o700]
    assert runtime_directory("demo") == made


@pytest.mark.parametrize("value", [None, "", "relative", "/does/not/exist"])
def test_temporary_directory_without_a_runtime_directory(run: Path, value: str | None) -> None:
    """Where XDG_RUNTIME_DIR is unset or of no use, the directory is one per user among the temporary files."""
    environ = {"TMPDIR": str(run), **({} if value is None else {"XDG_RUNTIME_DIR": value})}

    assert runtime_directory("demo", environ=environ) == run / f"lightbus-{os.geteuid()}" / "demo"


def test_temporary_directory_is_that_of_python(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With neither variable set it is where Python keeps temporary files."""
    monkeypatch.setattr("tempfile.tempdir", str(run))

    assert runtime_directory("demo", environ={}).is_relative_to(run)


def test_runtime_directory_of_somebody_else_is_not_used(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `sudo` leaves in the environment does not lead into another user's directory."""
    other = run / "other"
    other.mkdir()
    monkeypatch.setattr(security.os, "geteuid", lambda: os.getuid() + 1)

    base = security._base_directory({"XDG_RUNTIME_DIR": str(other), "TMPDIR": str(run)})

    assert base == run / f"lightbus-{os.getuid() + 1}"


@pytest.mark.parametrize("bus", ["../escape", "a/b", ".", "..", "", "~0123456789ab", "naïve", "nul\0", "x" * 200])
def test_bus_name_that_is_no_file_name_is_replaced(run: Path, bus: str) -> None:
    """A bus name never leads out of the directory, nor to a path too long for a socket."""
    made = runtime_directory(bus)

    assert made.parent == run / "lightbus"
    assert made.name.startswith("~")
    assert made.name != bus
    assert len(os.fsencode(made / LONGEST_NAME)) <= MAX_SOCKET_PATH


def test_buses_do_not_share_a_directory() -> None:
    """Names that are replaced stay apart."""
    assert runtime_directory("x" * 200) != runtime_directory("x" * 201)


def test_path_too_long_for_any_socket_is_refused(run: Path) -> None:
    """Where not even a digest fits, the message says which variable to set."""
    deep = run / ("d" * 80)
    deep.mkdir()

    with pytest.raises(InvalidConfiguration, match=r"set XDG_RUNTIME_DIR .* to a shorter one"):
        runtime_directory("demo", environ={"XDG_RUNTIME_DIR": str(deep)})


def test_directory_open_to_others_is_refused(run: Path) -> None:
    """A directory that others can enter is not used; the message says how to close it."""
    (run / "lightbus").mkdir(mode=0o700)
    (run / "lightbus").chmod(0o750)

    with pytest.raises(InvalidConfiguration, match="is open to other users; run: chmod 700"):
        runtime_directory("demo")


def test_symlink_is_refused(run: Path) -> None:
    """A symlink where the directory should be is somebody's trap."""
    (run / "elsewhere").mkdir(mode=0o700)
    (run / "lightbus").symlink_to(run / "elsewhere")

    with pytest.raises(InvalidConfiguration, match="is a symlink or a file; remove it"):
        runtime_directory("demo")


def test_directory_of_somebody_else_is_refused(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory that another user made first is not used."""
    runtime_directory("demo")
    user = os.geteuid()
    monkeypatch.setattr(security.os, "geteuid", lambda: user + 1)

    with pytest.raises(InvalidConfiguration, match=f"belongs to user {user}, not to {user + 1}"):
        security._make_private(run / "lightbus")


def test_directory_that_cannot_be_made_is_refused(run: Path) -> None:
    """What the file system says is in the message."""
    (run / "lightbus").write_text("")

    with pytest.raises(InvalidConfiguration, match=r"cannot be made \(File exists\)"):
        runtime_directory("demo")


@pytest.fixture
def live(run: Path) -> Iterator[Path]:
    """Return the path of a socket that somebody listens at."""
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


def test_stale_sockets_are_removed_and_live_ones_are_not(run: Path, live: Path) -> None:
    """Of all that is in the directory, only the sockets nobody listens at any more are removed."""
    dead = abandoned(run / "dead.rpc")
    (run / "notes.rpc").write_text("no socket")
    (run / "link.rpc").symlink_to(dead)

    removed = remove_stale(run, now=time.time() + LATER)

    assert removed == [dead]
    assert sorted(path.name for path in run.iterdir()) == ["link.rpc", "live.rpc", "notes.rpc"]


def test_socket_with_a_full_backlog_is_live(run: Path, live: Path) -> None:
    """A worker too busy to accept connections keeps its socket."""
    with closing(socket.socket(socket.AF_UNIX)) as first, closing(socket.socket(socket.AF_UNIX)) as second:
        for waiting in (first, second):
            waiting.setblocking(False)
            waiting.connect(str(live))

        assert remove_stale(run, now=time.time() + LATER) == []


def test_young_socket_is_left_alone(run: Path) -> None:
    """A socket that was bound a moment ago may be about to listen."""
    young = abandoned(run / "young.rpc")

    assert remove_stale(run) == []
    assert young.exists()


def test_zeromq_socket_in_the_directory_is_live(run: Path) -> None:
    """A bound ZeroMQ socket answers the look, and serves on after it."""
    endpoint = f"ipc://{runtime_directory('demo')}/{LONGEST_NAME}"
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router, context.socket(zmq.DEALER) as dealer:
        HOST.prepare_server(router)
        HOST.prepare_client(dealer, "")
        dealer.linger = router.linger = 0
        router.bind(endpoint)

        assert remove_stale(runtime_directory("demo"), now=time.time() + LATER) == []
        dealer.connect(endpoint)
        dealer.send(b"still there")
        assert router.poll(5000)


@pytest.mark.parametrize("mode", [HOST, INSECURE], ids=lambda mode: mode.mode)
def test_modes_without_keys_leave_sockets_plain(mode: Security) -> None:
    """Without keys, sockets of both sides speak ZMTP's NULL mechanism."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as server, context.socket(zmq.DEALER) as client:
        mode.prepare_server(server)
        mode.prepare_client(client, "fingerprint")

        assert [server.get(zmq.MECHANISM), client.get(zmq.MECHANISM)] == [zmq.NULL, zmq.NULL]


def test_mode_host_says_how_to_open_the_lan() -> None:
    """The start-up line of mode host says where the sockets are, and which command opens the LAN."""
    assert (HOST.mode, HOST.level) == ("host", logging.INFO)
    assert HOST.describe() == (
        "no key: this bus stays on this host (ipc sockets in /run/user/1000/lightbus/demo, other users are kept out by "
        "the file system); one key on each host opens it to the LAN: lightbus keys init"
    )


def test_mode_insecure_warns() -> None:
    """The start-up line of mode insecure is a warning that says who can do what, and how to end it."""
    assert (INSECURE.mode, INSECURE.level) == ("insecure", logging.WARNING)
    assert INSECURE.describe() == (
        "security is 'insecure': whoever reaches 192.0.2.7 can call and fire everything on the bus 'demo', and read it "
        "on the way; unset LIGHTBUS_SECURITY to keep the bus on this host"
    )


def test_mode_insecure_wants_a_bus_and_an_address() -> None:
    """Nobody ends up without protection by leaving something out."""
    with pytest.raises(InvalidConfiguration, match="set LIGHTBUS_BUS"):
        InsecureSecurity(bus="", addresses=("127.0.0.1",))
    with pytest.raises(InvalidConfiguration, match="set LIGHTBUS_INTERFACES"):
        InsecureSecurity(bus="demo", addresses=())


def test_platform() -> None:
    """Linux and macOS are served; elsewhere the refusal says where to run it instead."""
    check_platform("linux")
    check_platform("darwin")
    with pytest.raises(UnsupportedUse, match="this is 'win32'; on Windows run it in WSL 2"):
        check_platform("win32")
