"""
The directories through which a user's processes on one host find each other in mode host: sockets, announcements.

Processes of one user may see different directories: `/run/user/<uid>` comes and goes with logins, `XDG_RUNTIME_DIR`
and `TMPDIR` are set by a shell or a unit, and a unit may have a `/tmp` of its own (PrivateTmp of systemd). So a worker
binds sockets in all usable directories, and others look into all of them: one in common is enough.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import stat
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ...config.surroundings import make_private
from ...exceptions import InvalidConfiguration
from .directories import data_directory, is_shared, takes_no_files

__all__ = [
    "EVENTS",
    "LONGEST_NAME",
    "MAX_SOCKET_PATH",
    "PEER",
    "REMEDY",
    "RPC",
    "Places",
    "places_of_user",
    "remove_stale",
    "remove_stale_files",
]

logger = logging.getLogger("lightbus.places")

MAX_SOCKET_PATH = 103 if sys.platform == "darwin" else 107
"""Longest path of a unix socket, in bytes: `sun_path` of unix(4) and unix(7), less its closing NUL."""

RPC, EVENTS, PEER = ".rpc", ".pub", ".peer"
"""The suffixes of an instance's files: its sockets for calls and events, and its announcement."""

LONGEST_NAME = f"{'0' * 16}{PEER}"

STALE_AFTER = 5.0
"""Seconds for which a new file is left alone: between bind and listen a live socket refuses connections, too."""

EMPTY_FOR = 86_400.0
"""Seconds after which the empty directory of another bus is removed."""

MOST_TIDIED = 200
"""Directories of other buses that are cleaned up at a time."""

REMEDY = "set XDG_RUNTIME_DIR to a directory of this user's own (chmod 700)"

_SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


class Places:
    """
    The directories of one bus's sockets. They are neither created nor read before they are needed.

    Args:
        bus: the name of the bus. If it is not a plain file name, or too long, a digest of it is used.
        bases: the directories below which each bus has one, the most permanent first.
        last_resort: a further one, for sockets only if no other can be used; peers are looked for there, too.

    """

    def __init__(self, bus: str, bases: Sequence[Path], last_resort: Path | None = None) -> None:
        last = [] if last_resort is None or last_resort in bases else [last_resort]
        named = [(base, _directory_name(base, bus)) for base in dict.fromkeys([*bases, *last])]
        self._private: dict[Path, tuple[Path, ...]] = {
            base / name: (base, base / name) for base, name in named if name is not None
        }

        self.too_long = [base for base, name in named if name is None]
        """Directories that are left out because the paths of sockets in them would be too long."""
        self.last_resort = next((path for path in self._private if path.parent in last), None)

    @classmethod
    def only(cls, directory: Path) -> Places:
        """Return places with a single directory, which exists already and is trusted."""
        places = cls("", [])
        places._private = {directory: ()}
        return places

    def candidates(self) -> list[Path]:
        """Return the directories of this bus, whether they exist or not. Some may exist only at times."""
        return [*self._private]

    def there(self) -> list[Path]:
        """Return the directories that exist and that only this user can access."""
        return [path for path in self._private if self.is_usable(path)]

    def is_usable(self, path: Path) -> bool:
        """Return whether one of the candidates exists and only this user can access it."""
        return not any(map(_problem, self._private[path])) and path.is_dir()

    def problems(self) -> dict[Path, str]:
        """Return for each candidate why it cannot be used, as far as is known without creating it; else no text."""
        return {path: _why_unusable(private or (path,)) for path, private in self._private.items()}

    def make(self, path: Path) -> None:
        """Create one of the candidates. Raises InvalidConfiguration if that fails, or others can access it."""
        for each in self._private[path]:
            _make_private(each)

    def endpoints(self, instance: str, elsewhere: str = "") -> tuple[str, ...]:
        """
        Return the endpoints of an instance's ROUTER: each of its socket files that exists here.

        Args:
            instance: the instance id.
            elsewhere: the directory that it announces. It is used only if no other user can have put a socket there.

        """
        places = self.there()
        if elsewhere and Path(elsewhere) not in places and is_trusted(elsewhere):
            places.append(Path(elsewhere))
        found = [path for path in (place / f"{instance}{RPC}" for place in places) if path.exists()]
        return tuple(f"ipc://{path}" for path in found)

    def why_not(self, instance: str, elsewhere: str) -> str:
        """Return why an announced instance cannot be reached from here; empty if its sockets are found."""
        if self.endpoints(instance, elsewhere):
            return ""
        if self.would_see(elsewhere):
            return "its sockets are gone: has it ended?"
        owner = _owner(elsewhere)
        if owner not in (None, os.geteuid()):
            return f"its sockets are in {elsewhere}, which belongs to user {owner}; this process is user {os.geteuid()}"
        return (
            f"its sockets are in {elsewhere}, and this process sees none of them there, nor in "
            f"{', '.join(map(str, self.candidates()))}. Both have to see one directory: set XDG_RUNTIME_DIR to the "
            "same one for both (with PrivateTmp=yes a unit of systemd has a /tmp of its own)"
        )

    def has_ended(self, instance: str) -> bool:
        """Return whether an instance has ended and left its sockets: the kernel refuses connections to each of them."""
        found = [path for path in (place / f"{instance}{RPC}" for place in self.there()) if path.exists()]
        return bool(found) and all(map(_is_abandoned, found))

    def would_see(self, elsewhere: str) -> bool:
        """Return whether the sockets of a running instance that announces this directory would be found."""
        return not elsewhere or is_trusted(elsewhere)

    @property
    def first(self) -> Path:
        """The most permanent directory that exists, or could exist."""
        return next(iter([*self.there(), *self.candidates()]))

    def __str__(self) -> str:
        return ", ".join(map(str, self.there() or self.candidates()))


def places_of_user(bus: str, data_dir: Path | None, environ: Mapping[str, str] | None = None) -> Places:
    """
    Return the directories of this user for a bus.

    They are, the most permanent first: `/tmp/lightbus-<uid>`, a directory beside the kept events (not on a file system
    that other hosts may share), `$XDG_RUNTIME_DIR/lightbus` and `/run/user/<uid>/lightbus`, if those belong to this
    user, and `$TMPDIR/lightbus-<uid>` as the last resort.
    """
    environ = os.environ if environ is None else environ
    uid = os.geteuid()
    bases = [Path(f"/tmp/lightbus-{uid}")]
    data = data_directory(data_dir, environ)
    if not is_shared(data):
        bases.append(data / f".sockets-{uid}")
    for runtime in (environ.get("XDG_RUNTIME_DIR", ""), f"/run/user/{uid}"):
        # A relative path must be ignored (XDG Base Directory Specification). `sudo` and `su` leave the directory of
        # another user in the environment.
        if os.path.isabs(runtime) and _owner(runtime) in (None, uid):
            bases.append(Path(runtime) / "lightbus")
    temporary = environ.get("TMPDIR", "")
    return Places(bus, bases, Path(temporary) / f"lightbus-{uid}" if os.path.isabs(temporary) else None)


def is_trusted(directory: str) -> bool:
    """Return whether only this user (and root) can have written into a directory, or can move it."""
    try:
        path = Path(os.path.realpath(directory))
    except UnicodeEncodeError:  # no file can have this name here: file names are not UTF-8 in this locale
        return False
    if _problem(path) is not None:
        return False
    return all(map(_is_protected, path.parents))


def remove_stale(directory: Path, *, now: float | None = None) -> list[Path]:
    """
    Remove the files that ended processes left in `directory`, and return them. Those of live ones are never removed.

    `now` is the time of day in seconds since 1970, like the times of files.
    """
    before = (time.time() if now is None else now) - STALE_AFTER
    removed = []
    # Sockets before the announcements beside them: an announcement is stale only once its socket is gone.
    for path in sorted(_old_files(directory, before), key=lambda path: path.suffix == PEER):
        is_left = _is_abandoned(path) if path.suffix != PEER else not path.with_suffix(RPC).exists()
        if is_left:
            path.unlink(missing_ok=True)  # another worker may start, and clean up, at the same time
            removed.append(path)
    if removed:
        logger.debug("removed %d files of ended processes from %s", len(removed), directory)
    return removed


def remove_stale_files(directory: Path) -> None:
    """Remove the files of ended processes from the directory of a bus, and from those of other buses beside it."""
    try:
        remove_stale(directory)
        with os.scandir(directory.parent) as entries:
            others = [Path(entry.path) for entry, _ in zip(entries, range(MOST_TIDIED), strict=False)]
        for other in others:
            if other != directory and _problem(other) is None:
                remove_stale(other)
                if time.time() - other.stat().st_mtime > EMPTY_FOR:
                    other.rmdir()  # fails if it is not empty
    except OSError as error:
        logger.debug("%s could not be read completely: %s", directory.parent, error)


def _directory_name(base: Path, bus: str) -> str | None:
    """Return the name of a bus's directory; None if the path of a socket in it would be too long."""
    if _SAFE_NAME.fullmatch(bus) and _fits(base / bus):
        return bus
    import hashlib  # imported here: most names are short and plain

    # A safe name cannot begin with "~": no bus name equals the digest of another.
    digest = "~" + hashlib.sha256(bus.encode(errors="surrogatepass")).hexdigest()[:12]
    return digest if _fits(base / digest) else None


def _fits(directory: Path) -> bool:
    return len(os.fsencode(directory / LONGEST_NAME)) <= MAX_SOCKET_PATH


def _make_private(path: Path) -> None:
    try:
        if path.name.startswith(".sockets"):
            make_private(path.parent)
        path.mkdir(mode=0o700)
        path.chmod(0o700)  # independent of the umask
    except FileExistsError:
        pass
    except OSError as error:
        raise _unusable(path, f"cannot be made ({error.strerror})", "check its parent") from error
    if (problem := _problem(path)) is not None:
        raise _unusable(path, *problem)


def _why_unusable(private: Sequence[Path]) -> str:
    for path in private:
        if os.path.lexists(path):
            if (problem := _problem(path)) is not None:
                return str(_unusable(path, *problem))
        else:
            parent = next(each for each in path.parents if os.path.exists(each))
            can_be_made = parent == path.parent or path.parent in private or path.name.startswith(".sockets")
            if not can_be_made or not os.access(parent, os.W_OK | os.X_OK) or takes_no_files(parent):
                return str(_unusable(path, "cannot be made", f"check {parent}"))
    return ""


def _problem(path: Path) -> tuple[str, str] | None:
    """Return why others may access a directory, or why it is unusable, and what to do; None if it is fine."""
    try:
        found = path.lstat()
    except OSError as error:
        return f"is not there ({error.strerror})", "check its parent"
    if not stat.S_ISDIR(found.st_mode):
        return "is a symlink or a file", "remove it"
    if found.st_uid != os.geteuid():
        return f"belongs to user {found.st_uid}, not to {os.geteuid()}", "remove it"
    if stat.S_IMODE(found.st_mode) & 0o077:
        return "is open to other users", f"run: chmod 700 {path}"
    return None


def _unusable(path: Path, problem: str, remedy: str) -> InvalidConfiguration:
    return InvalidConfiguration(f"the directory for sockets, {path}, {problem}; {remedy}")


def _owner(path: str) -> int | None:
    try:
        return os.stat(path).st_uid
    except (OSError, UnicodeEncodeError):
        return None


def _is_protected(path: Path) -> bool:
    try:
        found = path.stat()
    except OSError:
        return False
    is_open = found.st_mode & 0o022 and not found.st_mode & stat.S_ISVTX
    return found.st_uid in (0, os.geteuid()) and not is_open


def _old_files(directory: Path, born_before: float) -> Iterator[Path]:
    for entry in list(os.scandir(directory)):
        try:
            found = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue
        is_ours = stat.S_ISSOCK(found.st_mode) or entry.name.endswith(PEER)
        if is_ours and found.st_mtime <= born_before:
            yield Path(entry.path)


def _is_abandoned(path: Path) -> bool:
    """Return whether the kernel refuses connections: no process listens. A full backlog means a live process."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
        return False
