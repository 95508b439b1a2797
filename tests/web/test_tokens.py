"""Tests of lightbus.web.tokens: tokens and their files."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightbus import InvalidConfiguration
from lightbus.web.tokens import LEAST_TOKEN, is_same, new_token, read_token


def test_new_tokens_differ() -> None:
    """They are also longer than required."""
    first, second = new_token(), new_token()
    assert first != second
    assert len(first) >= 2 * LEAST_TOKEN


@pytest.mark.parametrize(("given", "same"), [("right", True), ("", False), ("righ", False), ("rechtä\udcff", False)])
def test_any_header_can_be_compared(given: str, same: bool) -> None:
    """Any text of a header can be compared with a token."""
    assert is_same(given, "right") is same


def test_token_is_read_from_a_file(tmp_path: Path) -> None:
    """The file holds it alone, and is its owner's."""
    file = tmp_path / "token"
    file.write_text("0123456789abcdef\n")
    file.chmod(0o600)
    assert read_token(file) == "0123456789abcdef"


@pytest.mark.parametrize("content", ["", "short", "with a space in it, long", "ünicode-token-of-length"])
def test_weak_token_is_refused(tmp_path: Path, content: str) -> None:
    """What could be guessed, or no header can hold, is refused with how to make one."""
    file = tmp_path / "token"
    file.write_text(content)
    file.chmod(0o600)
    with pytest.raises(InvalidConfiguration, match=r"secrets\.token_urlsafe"):
        read_token(file)


def test_token_file_of_others(tmp_path: Path) -> None:
    """A file that others may read, or that is not there, is refused."""
    file = tmp_path / "token"
    file.write_text("0123456789abcdef")
    file.chmod(0o644)
    with pytest.raises(InvalidConfiguration, match="chmod 600"):
        read_token(file)
    with pytest.raises(InvalidConfiguration, match="cannot be read"):
        read_token(tmp_path / "none")
