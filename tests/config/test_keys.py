"""The bus key: its text, its fingerprint, its file."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightbus.config import keys as module
from lightbus.config.keys import (
    MAX_FILE_BYTES,
    MAX_KEYS,
    BusKey,
    default_key_file,
    looks_like_key,
    parse_keys,
    read_key_file,
    write_key_file,
)
from lightbus.exceptions import InvalidConfiguration

KEY = BusKey(bus="0123456789abcdef", secret=bytes(range(32)))
TEXT = "lb1.0123456789abcdef.AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh_l_l9-"
"""KEY as it is written: a later version must read it."""


# --- the text ---------------------------------------------------------------------------------------


def test_text_of_a_key() -> None:
    """A key is written on one line, and read again."""
    assert KEY.text == TEXT
    assert BusKey.parse(f"  {TEXT}\n") == KEY


@given(st.binary(min_size=32, max_size=32))
def test_every_key_is_read_as_it_was_written(secret: bytes) -> None:
    """Parsing the text of any key gives the key, and its text needs no quoting in a shell."""
    key = BusKey(bus="0" * 16, secret=secret)
    assert BusKey.parse(key.text) == key
    assert key.text.replace("-", "").replace("_", "").replace(".", "").isalnum()


@given(st.integers(0, len(TEXT) - 1), st.characters())
def test_a_mistake_in_a_key_is_noticed(place: int, character: str) -> None:
    """A key with a wrong character is refused, wherever it is."""
    wrong = TEXT[:place] + character + TEXT[place + 1 :]
    if wrong.strip() != TEXT:
        with pytest.raises(ValueError, match=r"is not a bus key|with a wrong character"):
            BusKey.parse(wrong)


@given(st.text())
def test_any_text_is_a_key_or_refused(text: str) -> None:
    """Only keys are accepted, and the error does not repeat the text."""
    with pytest.raises(ValueError, match=r"^is not a bus key: .* this has \d+$"):
        BusKey.parse(text)


def test_new_keys_differ() -> None:
    """Each new key is different, with its own bus; one that replaces a key keeps its bus."""
    one, other = BusKey.generate(), BusKey.generate()
    assert one.secret != other.secret
    assert one.bus == one.fingerprint
    assert BusKey.generate(one.bus).bus == one.bus


def test_a_key_is_not_shown() -> None:
    """Only the fingerprint of a key is printed."""
    assert str(KEY) == f"key {KEY.fingerprint}"
    assert repr(KEY) == "BusKey(bus='0123456789abcdef')"
    assert KEY.fingerprint == "e81e4c0b8525531d"


def test_keys_may_be_separated_by_commas_blanks_and_lines() -> None:
    """Keys may have commas, blanks or line ends between them, and lines of comment."""
    other = BusKey.generate(KEY.bus)
    for text in (f"{TEXT},{other.text}", f"# old\n{TEXT}\n\n  # new\n{other.text}\n", f"{TEXT} {other.text}"):
        assert parse_keys(text) == (KEY, other)
    assert parse_keys("# nothing\n") == ()


@pytest.mark.parametrize(
    ("held", "problem"),
    [
        ([KEY, KEY], "holds the same key twice"),
        ([KEY, BusKey.generate()], "holds keys of different buses: "),
        ([BusKey.generate(KEY.bus) for _ in range(MAX_KEYS + 1)], f"holds {MAX_KEYS + 1} keys; {MAX_KEYS} is the most"),
    ],
)
def test_keys_that_do_not_go_together(held: list[BusKey], problem: str) -> None:
    """Keys of one bus are held together, each once, and not too many."""
    with pytest.raises(ValueError, match=problem):
        parse_keys(" ".join(key.text for key in held))


def test_a_key_is_recognised() -> None:
    """A key in the wrong place is recognised, also inside other text, and partially."""
    assert looks_like_key(f"--bus-key={TEXT}")
    assert looks_like_key(TEXT[:40])
    assert not looks_like_key("lb1.example.org")


# --- where the file is ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"XDG_CONFIG_HOME": "/etc/xdg", "HOME": "/home/sally"}, "/etc/xdg/lightbus/bus.key"),
        ({"XDG_CONFIG_HOME": "relative", "HOME": "/home/sally"}, "/home/sally/.config/lightbus/bus.key"),
        ({"HOME": "/home/sally"}, "/home/sally/.config/lightbus/bus.key"),
        ({"HOME": ""}, None),
        ({}, None),
    ],
)
def test_where_the_file_is(environ: dict[str, str], expected: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is in the user's settings directory; a user without a home has none."""
    monkeypatch.setattr(sys, "platform", "linux")
    assert default_key_file(environ) == (expected and Path(expected))


def test_where_the_file_is_on_macos(monkeypatch: pytest.MonkeyPatch) -> None:
    """On macOS the user's settings are elsewhere."""
    monkeypatch.setattr(sys, "platform", "darwin")
    assert default_key_file({"HOME": "/Users/sally"}) == Path(
        "/Users/sally/Library/Application Support/lightbus/bus.key"
    )


# --- the file ---------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return the path of a file that is not there yet, nor its directory."""
    return tmp_path / "settings" / "lightbus" / "bus.key"


def test_written_key_is_read(file: Path) -> None:
    """A key file is made with its directories, is private, explains itself, and leaves no temporary file."""
    write_key_file(file, [KEY], replace=False, note="# a note")
    assert read_key_file(file) == (KEY,)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert file.read_text().startswith("# The key of a Lightbus bus.")
    assert "# a note\n" in file.read_text()
    assert [path.name for path in file.parent.iterdir()] == ["bus.key"]


def test_a_file_is_not_overwritten(file: Path) -> None:
    """An existing file is not changed unless it is to be replaced."""
    other = BusKey.generate(KEY.bus)
    write_key_file(file, [KEY], replace=False)
    with pytest.raises(FileExistsError):
        write_key_file(file, [other], replace=False)
    assert read_key_file(file) == (KEY,)
    write_key_file(file, [other, KEY], replace=True)
    assert read_key_file(file) == (other, KEY)
    assert [path.name for path in file.parent.iterdir()] == ["bus.key"]


def test_no_file_is_no_key(file: Path, tmp_path: Path) -> None:
    """Without the file, or its directory, there is no key."""
    assert read_key_file(file) is None
    (tmp_path / "settings").write_text("")
    assert read_key_file(file) is None


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o622, 0o644, 0o601])
def test_a_file_open_to_others_is_refused(file: Path, mode: int) -> None:
    """A key file that others can read or write is refused, with the command that closes it."""
    write_key_file(file, [KEY], replace=False)
    file.chmod(mode)
    with pytest.raises(InvalidConfiguration, match=rf"open to others .*mode {mode:04o}.* chmod 600 {file}"):
        read_key_file(file)


def test_a_file_of_another_user_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another user's file could be changed by that user."""
    write_key_file(file, [KEY], replace=False)
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    found = os.stat_result((stat.S_IFREG | 0o600, 0, 0, 1, 4712, 0, 0, 0, 0, 0))
    with pytest.raises(InvalidConfiguration, match="belongs to user 4712"):
        module._check_private(file, found)


def test_a_file_that_root_gives_to_a_service(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret that is mounted for a service may be root's, and readable by the service's group, and no more."""
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    module._check_private(file, os.stat_result((stat.S_IFREG | 0o440, 0, 0, 1, 0, 0, 0, 0, 0, 0)))
    for mode in (0o444, 0o460):
        with pytest.raises(InvalidConfiguration, match="open to others"):
            module._check_private(file, os.stat_result((stat.S_IFREG | mode, 0, 0, 1, 0, 0, 0, 0, 0, 0)))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "holds no key"),
        (b"# only a comment\n", "holds no key"),
        (b"sesame\n", "is not a bus key"),
        (b"\xff\xfe\x00", "is not a bus key"),
        (TEXT.encode()[:-1] + b"A\n", "with a wrong character"),
        (b"#" * (MAX_FILE_BYTES + 1), "is larger than"),
    ],
)
def test_a_file_with_something_else(file: Path, content: bytes, problem: str) -> None:
    """An invalid file is refused with its name, without its content."""
    write_key_file(file, [KEY], replace=False)
    file.write_bytes(content)
    with pytest.raises(InvalidConfiguration, match=f"content of the key file {file} .*{problem}") as caught:
        read_key_file(file)
    assert "sesame" not in str(caught.value)
    assert TEXT[25:60] not in str(caught.value)


def test_a_file_that_is_none(file: Path) -> None:
    """A directory, a pipe or a device is no key file."""
    file.mkdir(parents=True)
    with pytest.raises(InvalidConfiguration, match="is no file"):
        read_key_file(file)
    os.mkfifo(file / "pipe")
    with pytest.raises(InvalidConfiguration, match="is no file"):
        read_key_file(file / "pipe")  # at once, and not when somebody writes
    with pytest.raises(InvalidConfiguration, match="is no file"):
        read_key_file(Path("/dev/null"))


def test_a_file_that_cannot_be_written(file: Path, tmp_path: Path) -> None:
    """Why it cannot is in the message."""
    (tmp_path / "settings").write_text("")
    with pytest.raises(InvalidConfiguration, match="cannot be written"):
        write_key_file(file, [KEY], replace=False)
