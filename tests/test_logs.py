"""Logging to the terminal, as set up for programs without their own configuration."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator

import pytest

from lightbus.logs import TerminalHandler, configure_logging

ROOT = logging.getLogger("lightbus")


@pytest.fixture(autouse=True)
def logger_as_it_was() -> Iterator[None]:
    """Restore the logger after the test."""
    handlers, level, propagate = ROOT.handlers[:], ROOT.level, ROOT.propagate
    yield
    ROOT.handlers[:], ROOT.propagate = handlers, propagate
    ROOT.setLevel(level)


def terminal_handlers() -> list[logging.Handler]:
    """Return our handlers at the logger."""
    return [handler for handler in ROOT.handlers if isinstance(handler, TerminalHandler)]


def test_lines_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    """On standard error: when, how bad, of what part, what."""
    configure_logging()
    logging.getLogger("lightbus.worker").warning("the disk is %s", "full")
    logging.getLogger("lightbus.worker").debug("not said")
    told = capsys.readouterr()
    assert told.err.endswith(" WARNING lightbus.worker: the disk is full\n")
    assert (told.err.count("\n"), told.out) == (1, "")


def test_foreign_text_stays_text(capsys: pytest.CaptureFixture[str]) -> None:
    """It makes no line of its own and moves no cursor, in the message as in the traceback."""
    configure_logging()
    try:
        raise ValueError("gone\x1b[2J")
    except ValueError:
        logging.getLogger("lightbus.calls").exception("%s failed", "a\nERROR forged\x1b[1A")
    first, *others = capsys.readouterr().err.splitlines()
    assert first.endswith("ERROR   lightbus.calls: a\\nERROR forged\\x1b[1A failed")
    assert others[0] == "Traceback (most recent call last):"
    assert others[-1] == "ValueError: gone\\x1b[2J"


@pytest.mark.parametrize(("level", "number"), [("debug", 10), ("WARNING", 30), (5, 5), (logging.ERROR, 40)])
def test_level_is_a_name_or_a_number(level: str | int, number: int) -> None:
    """By name, in any case, or by number."""
    configure_logging(level)
    assert ROOT.level == number


def test_an_unknown_level_is_refused() -> None:
    """As logging itself does it; nothing is set."""
    with pytest.raises(ValueError, match="Level NOISY"):
        configure_logging("noisy")


def test_called_again_it_replaces_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    """No line is written twice, and handlers of others stay."""
    other = logging.NullHandler()
    ROOT.addHandler(other)
    configure_logging()
    configure_logging("error")
    assert len(terminal_handlers()) == 1
    assert other in ROOT.handlers
    ROOT.error("once")
    assert capsys.readouterr().err.count("once") == 1


def test_standard_error_is_looked_up_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program may replace it after logging was set up."""
    configure_logging()
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    ROOT.error("here")
    assert "here" in stream.getvalue()


class Gone(io.StringIO):
    """A stream whose reader has left."""

    def write(self, text: str) -> int:
        raise BrokenPipeError

    def flush(self) -> None:
        raise BrokenPipeError


def closed() -> io.StringIO:
    """Return a stream that was closed."""
    stream = io.StringIO()
    stream.close()
    return stream


@pytest.mark.parametrize("stream", [None, closed(), Gone()], ids=["none", "closed", "nobody reads"])
def test_without_a_reader_nothing_is_raised(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO | None) -> None:
    """A process without standard error continues, without an error."""
    configure_logging()
    monkeypatch.setattr(sys, "stderr", stream)
    ROOT.error("to nobody")
    for handler in terminal_handlers():
        handler.flush()


def test_a_record_that_cannot_be_formatted_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    """The stream exists: an error in a log line is shown."""
    configure_logging()
    ROOT.error("%d of them", "many")
    assert "--- Logging error ---" in capsys.readouterr().err
