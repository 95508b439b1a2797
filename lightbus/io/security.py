"""
Who gets at our sockets: the modes of security, and the directory that keeps other users out in mode host.

A mode prepares each socket before it is bound or connected, and knows nothing of what goes through it. Mode bus_key is
in `io.curve`, and who watches over its bound sockets while they are open in `io.gate`.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import stat
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..exceptions import InvalidConfiguration, UnsupportedUse

if TYPE_CHECKING:
    import zmq

__all__ = [
    "HostSecurity",
    "InsecureSecurity",
    "Security",
    "check_platform",
    "remove_stale",
    "runtime_directory",
]

logger = logging.getLogger("lightbus.security")

MAX_SOCKET_PATH = 103 if sys.platform == "darwin" else 107
"""Bytes of the path of a unix socket: `sun_path` of unix(4) and unix(7), less its closing NUL."""

LONGEST_NAME = f"{'0' * 16}.rpc"
"""The longest name of a socket file: that of an instance."""

STALE_AFTER = 5.0
"""Seconds a socket file is left alone after its birth: between bind and listen a live one refuses connections, too."""

_SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


class Security(Protocol):
    """A mode of security. One object serves all sockets of an engine."""

    @property
    def mode(self) -> str:
        """The mode's name, as `LIGHTBUS_SECURITY` has it."""

    @property
    def level(self) -> int:
        """The logging level of `describe()`: a mode without protection warns."""

    @property
    def fingerprints(self) -> tuple[str, ...]:
        """The fingerprints of our keys, that of the one we speak first; one empty text without keys."""

    @property
    def admitted(self) -> Mapping[bytes, str] | None:
        """Who may connect: the fingerprint of the key, by CURVE public key; None where no key is asked for."""

    @property
    def refusal(self) -> str:
        """What it means that a peer breaks off our handshake, and what to do: the end of a sentence about it."""

    def prepare_server(self, socket: zmq.Socket[Any]) -> None:
        """Set what a socket needs before it is bound."""

    def prepare_client(self, socket: zmq.Socket[Any], peer_fingerprint: str) -> None:
        """
        Set what a socket needs before it connects to the peer whose key has this fingerprint (empty: not known).

        Raises PeerRefused where it is none of ours: there is no use in trying.
        """

    def describe(self) -> str:
        """Return the sentence a worker starts with: who can reach it, and how to change that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSecurity:
    """Mode host: no key, and sockets that only this user can open (`directory` is a `runtime_directory`)."""

    directory: Path
    mode: str = "host"
    level: int = logging.INFO
    fingerprints: tuple[str, ...] = ("",)
    admitted: None = None
    refusal: str = "it may want a key, and this process has none (mode host): lightbus keys"

    def prepare_server(self, socket: zmq.Socket[Any]) -> None:
        """Nothing to set: the file system decides who may connect."""

    def prepare_client(self, socket: zmq.Socket[Any], peer_fingerprint: str) -> None:
        """Nothing to set: only this user's processes can have bound the socket."""

    def describe(self) -> str:
        """Say that the bus stays on this host, and what opens it."""
        return (
            f"no key: this bus stays on this host (ipc sockets in {self.directory}, other users are kept out by the "
            "file system); one key on each host opens it to the LAN: lightbus keys init"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class InsecureSecurity:
    """
    Mode insecure: plain TCP, for trusted networks, benchmarks and tests. It must be written out.

    Raises:
        InvalidConfiguration: no bus name, or no address: either would open more than was asked for.

    """

    bus: str
    addresses: tuple[str, ...]
    mode: str = "insecure"
    level: int = logging.WARNING
    fingerprints: tuple[str, ...] = ("",)
    admitted: None = None
    refusal: str = "it may want a key, and mode insecure has none: unset LIGHTBUS_SECURITY where there is one"

    def __post_init__(self) -> None:
        if not self.bus:
            raise InvalidConfiguration("security 'insecure' wants a bus name of its own: set LIGHTBUS_BUS (bus.name)")
        if not self.addresses:
            raise InvalidConfiguration("security 'insecure' has no address to listen on: set LIGHTBUS_INTERFACES")

    def prepare_server(self, socket: zmq.Socket[Any]) -> None:
        """Nothing to set: anyone may connect."""

    def prepare_client(self, socket: zmq.Socket[Any], peer_fingerprint: str) -> None:
        """Nothing to set: nobody proves who he is."""

    def describe(self) -> str:
        """Warn that there is no protection, and say what gives some."""
        return (
            f"security is 'insecure': whoever reaches {', '.join(self.addresses)} can call and fire everything on the "
            f"bus '{self.bus}', and read it on the way; unset LIGHTBUS_SECURITY to keep the bus on this host"
        )


def check_platform(platform: str = sys.platform) -> None:
    """Raise UnsupportedUse unless this is Linux or macOS: unix sockets, fork and flock are taken for granted."""
    if platform not in ("linux", "darwin"):
        raise UnsupportedUse(
            f"Lightbus runs on Linux and macOS, and this is '{platform}'; on Windows run it in WSL 2 or in a container"
        )


def runtime_directory(bus: str, *, environ: Mapping[str, str] | None = None) -> Path:
    """
    Return the directory for the ipc sockets of `bus`, made if need be, which only this user can enter.

    It is `$XDG_RUNTIME_DIR/lightbus/<bus>` where that variable names a directory of ours (XDG Base Directory
    Specification), else `/run/user/<uid>/lightbus/<bus>` where a login session made that, else
    `<temporary directory>/lightbus-<uid>/<bus>`. A bus name that is no plain file name, or too long for the path of a
    socket, is replaced by a digest of it.

    Raises:
        InvalidConfiguration: it cannot be made, is a symlink, is another user's, is open to others, or too long.

    """
    environ = os.environ if environ is None else environ
    base = _base_directory(environ)
    directory = base / _directory_name(base, bus)
    for path in (base, directory):
        _make_private(path)
    return directory


def remove_stale(directory: Path, *, now: float | None = None) -> list[Path]:
    """
    Remove the socket files in `directory` whose process is gone, and return them. A live one is never removed.

    `now` is the time of day in seconds since the epoch, as files have it.
    """
    now = time.time() if now is None else now
    removed = []
    for path in _old_sockets(directory, now - STALE_AFTER):
        if _is_abandoned(path):
            path.unlink(missing_ok=True)  # another worker may start, and clean up, at the same time
            removed.append(path)
    if removed:
        logger.debug("removed %d sockets of ended processes from %s", len(removed), directory)
    return removed


def _base_directory(environ: Mapping[str, str]) -> Path:
    runtime = Path(environ.get("XDG_RUNTIME_DIR", ""))
    # A relative path must be ignored (XDG Base Directory Specification). A directory of somebody else's is what
    # `sudo` and `su` leave in the environment.
    # Cron and plain daemons have no such variable; where the login session made the usual directory, they use it too.
    for candidate in (runtime, Path(f"/run/user/{os.geteuid()}")):
        if candidate.is_absolute() and candidate.is_dir() and candidate.stat().st_uid == os.geteuid():
            return candidate / "lightbus"
    return Path(environ.get("TMPDIR") or _temporary_directory()) / f"lightbus-{os.geteuid()}"


def _temporary_directory() -> str:
    import tempfile  # ten modules, and most processes have XDG_RUNTIME_DIR

    return tempfile.gettempdir()


def _directory_name(base: Path, bus: str) -> str:
    if _SAFE_NAME.fullmatch(bus) and _fits(base / bus):
        return bus
    import hashlib  # most names are short and plain

    # A "~" cannot begin a safe name: no bus is called what another one's digest is.
    digest = "~" + hashlib.sha256(bus.encode(errors="surrogatepass")).hexdigest()[:12]
    if not _fits(base / digest):
        raise InvalidConfiguration(
            f"the runtime directory {base} is too long a path: sockets in it would have over {MAX_SOCKET_PATH} bytes; "
            "set XDG_RUNTIME_DIR (or TMPDIR) to a shorter one"
        )
    return digest


def _fits(directory: Path) -> bool:
    return len(os.fsencode(directory / LONGEST_NAME)) <= MAX_SOCKET_PATH


def _make_private(path: Path) -> None:
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        found = path.lstat()
    except OSError as error:
        raise _unusable(path, f"cannot be made ({error.strerror})", "check its parent") from error
    if not stat.S_ISDIR(found.st_mode):
        raise _unusable(path, "is a symlink or a file", "remove it")
    if found.st_uid != os.geteuid():
        raise _unusable(path, f"belongs to user {found.st_uid}, not to {os.geteuid()}", "remove it")
    if stat.S_IMODE(found.st_mode) & 0o077:
        raise _unusable(path, "is open to other users", f"run: chmod 700 {path}")


def _unusable(path: Path, problem: str, remedy: str) -> InvalidConfiguration:
    return InvalidConfiguration(
        f"the directory for sockets, {path}, {problem}; {remedy}, or set XDG_RUNTIME_DIR to a directory of your own"
    )


def _old_sockets(directory: Path, born_before: float) -> Iterator[Path]:
    for entry in list(os.scandir(directory)):
        try:
            found = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue
        if stat.S_ISSOCK(found.st_mode) and found.st_mtime <= born_before:
            yield Path(entry.path)


def _is_abandoned(path: Path) -> bool:
    """Nobody listens any more: the kernel refuses. Any other outcome (a full backlog, say) may be a live process."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
        return False
