"""The name of this host and the home directory of this user, with substitutes where the system has none."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import socket
from collections.abc import Mapping
from pathlib import Path

from ..exceptions import InvalidConfiguration
from .durable_files import sync_directory

__all__ = [
    "MAX_HOST_NAME",
    "NO_HOME",
    "expand_home",
    "home_directory",
    "host_name",
    "make_private",
    "shorten_name",
]

MAX_HOST_NAME = 64
"""The most bytes of a host name, as on Linux (HOST_NAME_MAX)."""

NO_HOME = Path("/dev/null/no-home-directory")
"""The home of a user without one. Nobody can create it, not even root, since its parent is not a directory."""

_DIGEST = 6


def host_name() -> str:
    """Return the name of this host, fit for announcements, paths and logs: 1 to 64 printable bytes, without blanks."""
    given = socket.gethostname().encode(errors="surrogateescape").decode(errors="replace")
    name = re.sub(r"[^\w.-]+", "-", given).strip(".-")
    return shorten_name(name, MAX_HOST_NAME) if name else f"unnamed{_machine()}"


def shorten_name(name: str, limit: int) -> str:
    """Return a name in at most `limit` bytes; a shortened name ends with a digest, to stay unique."""
    encoded = name.encode()
    if len(encoded) <= limit:
        return name
    digest = hashlib.sha256(encoded).hexdigest()[:_DIGEST]
    return f"{encoded[: max(0, limit - _DIGEST - 1)].decode(errors='ignore')}-{digest}"[-limit:]


def home_directory(environ: Mapping[str, str] | None = None) -> Path:
    """
    Return the home of the user that this process runs as; `NO_HOME` without one.

    It is `HOME`, unless that is another user's home, as `sudo` may leave it: that user could not read files written
    there.
    """
    environ = os.environ if environ is None else environ
    given = environ.get("HOME", "")
    own = _home_of_user()
    if os.path.isabs(given) and (own is None or not _is_another_users(given)):
        return Path(given)
    return own or NO_HOME


def expand_home(path: str | os.PathLike[str]) -> Path:
    """
    Return a path with a leading `~` or `~user` replaced by the home of this or that user.

    Raises InvalidConfiguration if there is no such home.
    """
    given = Path(path)
    whose = given.parts[0] if given.parts else ""
    if not whose.startswith("~"):
        return given
    home = home_directory() if whose == "~" else Path(os.path.expanduser(whose))
    if home == NO_HOME or not home.is_absolute():
        user = "this user has no home directory" if whose == "~" else f"there is no user {whose[1:]!r} with a home"
        raise InvalidConfiguration(
            f"{str(given)!r} begins with ~, and {user}. Write the whole path{', or set HOME' if whose == '~' else ''}."
        )
    return home.joinpath(*given.parts[1:])


def make_private(path: Path) -> None:
    """
    Make a directory and its missing parents, accessible to this user only. Existing directories are not changed.

    `Path.mkdir` applies the mode to the last directory only: with a umask of 0, anybody could replace it. What is
    written there survives a power cut only if the directory does, too. Raises OSError.
    """
    missing = [each for each in (path, *path.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(mode=0o700, exist_ok=True)
        sync_directory(each.parent)
    if not missing:
        path.mkdir(mode=0o700, exist_ok=True)  # raises if it is not a directory


def _is_another_users(home: str) -> bool:
    try:
        owner = os.stat(home).st_uid
    except OSError:
        return False
    return owner != os.geteuid() and (os.geteuid() == 0 or not os.access(home, os.W_OK))


def _home_of_user() -> Path | None:
    """Return the home in the system's user database; None for an unknown user, or one without a home."""
    import pwd  # Linux and macOS only, like Lightbus

    with contextlib.suppress(KeyError):
        home = pwd.getpwuid(os.geteuid()).pw_dir
        if os.path.isabs(home) and os.path.isdir(home):
            return Path(home)
    return None


def _machine() -> str:
    with contextlib.suppress(OSError):
        return "-" + hashlib.sha256(Path("/etc/machine-id").read_bytes()).hexdigest()[:_DIGEST]
    return ""
