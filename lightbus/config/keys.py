"""The bus key: its text form, its fingerprint, and its file, which only the owner can read.

`adapters.zmq.curve` derives the encryption keys from it. The text of a key never appears in a message, a log or a
`repr`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import stat
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..exceptions import InvalidConfiguration
from .durable_files import write_durably
from .surroundings import home_directory, make_private

__all__ = [
    "MAX_KEYS",
    "PROMOTED",
    "BusKey",
    "check_together",
    "default_key_file",
    "looks_like_key",
    "parse_keys",
    "read_key_file",
    "write_key_file",
]

MAX_KEYS = 4
"""The most keys at a time: two while a key is being replaced, and some for hosts that are late."""

MAX_FILE_BYTES = 4096
_SECRET_BYTES = 32
_CHECK_BYTES = 4
_ANY_KEY = re.compile(r"lb1\.[0-9a-f]{16}\.[A-Za-z0-9_-]{8,}")
_KEY = re.compile(r"lb1\.([0-9a-f]{16})\.([A-Za-z0-9_-]{48})")

PROMOTED = "# promoted: the first of these keys is the new one"
"""A line of the file between the second and the third phase of a rotation, which the order alone would not show."""

_HEAD = """\
# The key of a Lightbus bus. Whoever has it can call, serve, fire and read everything on the bus: keep it secret.
# The first key is the one that is used; any other one is accepted too, while `lightbus keys rotate` replaces a key.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class BusKey:
    """
    One key, written as `lb1.<name of the bus>.<secret and check sum>`.

    Attributes:
        bus: the name of the bus unless the settings give one: the fingerprint of the bus's first key. A key that
            replaces another one keeps it, so that the bus keeps its name.
        secret: 32 random bytes.

    """

    bus: str
    secret: bytes = field(repr=False)

    @classmethod
    def generate(cls, bus: str = "") -> BusKey:
        """Return a new key: for the bus named `bus`, or for a new bus."""
        secret = os.urandom(_SECRET_BYTES)
        return cls(bus=bus or _fingerprint(secret), secret=secret)

    @classmethod
    def parse(cls, text: str) -> BusKey:
        """Parse the form that `text` returns. Raise ValueError, which shows no part of the key, for any other text."""
        found = _KEY.fullmatch(text.strip())
        if found is None:
            raise ValueError(
                f"is not a bus key: those that `lightbus keys init` makes begin with 'lb1.' and have 69 characters, "
                f"and this has {len(text.strip())}"
            )
        raw = base64.urlsafe_b64decode(found[2])
        secret, check = raw[:_SECRET_BYTES], raw[_SECRET_BYTES:]
        if not hmac.compare_digest(check, _check(found[1], secret)):
            raise ValueError("is a bus key with a wrong character somewhere (its check sum differs): copy it again")
        return cls(bus=found[1], secret=secret)

    @property
    def text(self) -> str:
        """The text form of the key, which contains the secret."""
        raw = self.secret + _check(self.bus, self.secret)
        return f"lb1.{self.bus}.{base64.urlsafe_b64encode(raw).decode()}"

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that identify the key without revealing it."""
        return _fingerprint(self.secret)

    def __str__(self) -> str:
        return f"key {self.fingerprint}"


def parse_keys(text: str) -> tuple[BusKey, ...]:
    """
    Parse keys separated by blanks, line ends or commas; lines that begin with `#` are skipped.

    Raises ValueError for an invalid key, and for keys that cannot be held together (`check_together`).
    """
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    keys = tuple(BusKey.parse(word) for word in re.split(r"[\s,]+", " ".join(lines)) if word)
    check_together(keys)
    return keys


def check_together(keys: Sequence[BusKey]) -> None:
    """Raise ValueError unless the keys may be held together: of one bus, each of them once, and not too many."""
    if len(keys) > MAX_KEYS:
        raise ValueError(f"holds {len(keys)} keys; {MAX_KEYS} is the most")
    if len({key.bus for key in keys}) > 1:
        raise ValueError(f"holds keys of different buses: {', '.join(sorted({key.bus for key in keys}))}")
    if len({key.secret for key in keys}) < len(keys):
        raise ValueError("holds the same key twice")


def looks_like_key(text: str) -> bool:
    """Return whether a text contains a bus key."""
    return _ANY_KEY.search(text) is not None


# The file


def default_key_file(environ: Mapping[str, str]) -> Path | None:
    """
    Return the default path of this user's key file; None for a user without a home.

    It is `bus.key` in `$XDG_CONFIG_HOME/lightbus` (XDG Base Directory Specification), else in
    `~/.config/lightbus`, on macOS in `~/Library/Application Support/lightbus`.
    """
    base, given = environ.get("XDG_CONFIG_HOME", ""), environ.get("HOME", "")
    if os.path.isabs(base):
        return Path(base) / "lightbus" / "bus.key"
    usual = "Library/Application Support" if sys.platform == "darwin" else ".config"
    usual = f"{usual}/lightbus/bus.key"
    if not os.path.isabs(given):
        return None
    # An existing file in $HOME is read, whoever owns that home; a new one is made in the user's own home.
    return (Path(given) if os.path.exists(os.path.join(given, usual)) else home_directory(environ)) / usual


def read_key_file(path: Path) -> tuple[BusKey, ...] | None:
    """
    Return the keys in a file; None where there is no such file.

    Raises:
        InvalidConfiguration: the file cannot be read, can be read by others than its owner, or has an invalid key.

    """
    try:
        # O_NONBLOCK: a named pipe would otherwise block until somebody writes into it.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            _check_private(path, os.fstat(descriptor))  # of the opened file, not of the path
            raw = os.read(descriptor, MAX_FILE_BYTES + 1)
        finally:
            os.close(descriptor)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise InvalidConfiguration(
            f"The key file {path} cannot be read: {error.strerror}. Let this user read it, or set HOME to its own home."
        ) from error
    try:
        if len(raw) > MAX_FILE_BYTES:
            raise ValueError(f"is larger than {MAX_FILE_BYTES} bytes")
        keys = parse_keys(raw.decode("ascii", errors="replace"))
        if not keys:
            raise ValueError("holds no key")
    except ValueError as error:
        raise InvalidConfiguration(f"The content of the key file {path} {error}.") from None
    return keys


def write_key_file(path: Path, keys: Sequence[BusKey], *, replace: bool, note: str = "") -> None:
    """
    Write a key file that only its owner can read. Without `replace`, an existing file is not changed.

    If `path` is a symbolic link, its target is replaced. `note` is a comment line.

    Raises:
        InvalidConfiguration: the file cannot be written.
        FileExistsError: the file exists, and `replace` is false.

    """
    content = _HEAD + "".join(f"{line}\n" for line in (note, *(key.text for key in keys)) if line)
    path = path.resolve() if replace else path
    try:
        make_private(path.parent)
        write_durably(path, content.encode(), replace=replace)
    except FileExistsError:
        raise
    except OSError as error:
        raise InvalidConfiguration(f"The key file {path} cannot be written: {error.strerror}.") from error


def _check_private(path: Path, found: os.stat_result) -> None:
    mode = stat.S_IMODE(found.st_mode)
    if not stat.S_ISREG(found.st_mode):
        raise InvalidConfiguration(f"The key file {path} is no file. Make one: lightbus keys init")
    if found.st_uid not in (os.geteuid(), 0):
        raise InvalidConfiguration(
            f"The key file {path} belongs to user {found.st_uid}, who could change it. Make it your own: chown it."
        )
    # A file that root mounts for a service (a container's secret) may be readable by the group, one of this user not.
    if mode & (0o077 if found.st_uid == os.geteuid() else 0o037):
        raise InvalidConfiguration(
            f"The key file {path} is open to others than its owner (mode {mode:04o}), who may know the key by now. "
            f"Close it: chmod 600 {path}; if others do use this host, make a new key for all hosts: "
            "remove the file, and lightbus keys init."
        )


def _fingerprint(secret: bytes) -> str:
    return hmac.digest(secret, b"lightbus: fingerprint of a bus key", "sha256")[:8].hex()


def _check(bus: str, secret: bytes) -> bytes:
    return hashlib.sha256(b"lightbus: check sum of a bus key\0" + bus.encode() + b"\0" + secret).digest()[:_CHECK_BYTES]
