"""Describing exceptions: as much as possible, without raising."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

import lightbus
from helpers.failing import ODD
from lightbus.exceptions import InvalidParameters
from lightbus.phrases import class_name
from lightbus.service.failures import MAX_TRACE, as_exception, describe, encode_error, is_a, report, show, trace_of
from lightbus.wire import envelope
from lightbus.wire.envelope import Error

LIMIT = 1024 * 1024
logger = logging.getLogger("lightbus.test")


def raised(make: Callable[[], BaseException]) -> BaseException:
    """Return an exception that was raised."""
    try:
        raise make()
    except BaseException as error:
        return error


def sent(error: BaseException, limit: int = LIMIT) -> Error:
    """Return what the caller gets of an exception."""
    frame = encode_error(describe("work.fail", error), 7, limit)
    assert len(frame) <= limit
    call_id, message = envelope.decode(frame)
    assert call_id == 7
    assert isinstance(message, Error)
    return message


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("limit", [LIMIT, 4096])
def test_any_exception_gives_an_answer(kind: str, limit: int) -> None:
    """For any exception, its caller gets an answer that names the peer that raised it."""
    message = sent(raised(ODD[kind]), limit)
    assert message.code == "worker_error"
    assert message.started
    assert message.message.startswith("work.fail raised ")


@pytest.mark.parametrize("kind", ODD)
def test_any_exception_can_be_logged(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """The log says what failed, with the traceback."""
    report(logger, logging.ERROR, raised(ODD[kind]), "%s failed", "work.fail")
    [record] = caplog.records
    assert record.getMessage().startswith("work.fail failed")


def test_failing_log_filter_raises_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """If a filter of the application raises, the record is logged without the error."""

    def refuse(record: logging.LogRecord) -> bool:
        if record.exc_info:
            raise RuntimeError("no errors here")
        return True

    logger.addFilter(refuse)
    try:
        report(logger, logging.ERROR, raised(lambda: ValueError("oh")), "%s failed", "work.fail")
    finally:
        logger.removeFilter(refuse)
    assert [record.getMessage() for record in caplog.records] == [
        "work.fail failed (ValueError; it cannot be logged as it is)"
    ]


def test_failure_has_type_text_arguments_and_traceback() -> None:
    """All four are in the error that the caller gets."""
    message = sent(raised(lambda: KeyError("bare", 3)))
    assert message.message == "work.fail raised KeyError: ('bare', 3)"
    assert (message.details["type"], message.details["args"]) == ("builtins.KeyError", ["bare", 3])
    assert message.details["trace"].startswith("Traceback (most recent call last):\n")
    assert message.details["trace"].endswith("KeyError: ('bare', 3)\n")


def test_our_own_error_has_no_frames_of_ours() -> None:
    """A handler whose call fails is shown with its own line, without the frames of the call."""
    bus = lightbus.create(service_name="caller")

    def handler(*features: Any) -> BaseException:
        bus.client.set_features(features)
        return AssertionError("not refused")

    trace = trace_of(raised(lambda: handler("nothing")))
    assert "bus.client.set_features(features)" in trace
    assert trace.splitlines()[-1].startswith("lightbus.exceptions.InvalidConfiguration: ")
    assert "lightbus/client/" not in trace
    assert "lightbus/client/" in trace_of(raised(lambda: handler(None)))  # not an exception of Lightbus


@pytest.mark.parametrize("carrier", [asyncio.__file__, "uvloop/loop.pyx"])
def test_traceback_has_no_frames_of_the_loop(carrier: str) -> None:
    """With any event loop: the first line is the user's."""
    names: dict[str, Any] = {}
    exec(compile("def run(function): function()", carrier, "exec"), names)

    def handler() -> None:
        raise ValueError("no database")

    with pytest.raises(ValueError, match="no database") as caught:
        names["run"](handler)
    first, *_, last = trace_of(caught.value.with_traceback(caught.tb.tb_next)).splitlines()[1:]
    assert first.endswith("in handler")
    assert last == "ValueError: no database"


def test_long_errors_are_cut() -> None:
    """A text of megabytes does not prevent sending the rest."""
    message = sent(raised(lambda: ValueError("x" * 3_000_000)), 10_000)
    assert message.message.startswith("work.fail raised ValueError: xxx")
    assert message.details["type"] == "builtins.ValueError"
    assert len(trace_of(raised(lambda: ValueError("x" * 3_000_000)))) == MAX_TRACE


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError, StopIteration])
def test_exceptions_that_end_a_process_become_errors(kind: type[BaseException]) -> None:
    """SystemExit and the like become an error that names them."""
    error = kind("3")
    made = as_exception("greeter", error)
    assert type(made) is RuntimeError
    assert str(made) == f"greeter raised {kind.__name__}: 3"
    assert made.__cause__ is error


def test_ordinary_exception_is_unchanged() -> None:
    """An Exception is not wrapped."""
    error = ValueError("oh")
    assert as_exception("greeter", error) is error
    assert (show(error), show(ValueError())) == ("ValueError: oh", "ValueError")


def test_overridden_class_is_ignored() -> None:
    """The class that an exception claims to have is not trusted."""
    error = ODD["a class that lies"]()
    assert is_a(error, ValueError)
    assert not is_a(error, InvalidParameters)
    assert class_name(error, qualified=True) == "helpers.failing.Liar"
