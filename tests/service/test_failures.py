"""What is told of an exception: as much as can be told, and nothing raises on the way."""

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
def test_everything_can_be_told(kind: str, limit: int) -> None:
    """Whatever the exception is, its caller gets an answer, which says who raised."""
    message = sent(raised(ODD[kind]), limit)
    assert message.code == "worker_error"
    assert message.started
    assert message.message.startswith("work.fail raised ")


@pytest.mark.parametrize("kind", ODD)
def test_everything_can_be_logged(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """The log says what failed, and the traceback is there."""
    report(logger, logging.ERROR, raised(ODD[kind]), "%s failed", "work.fail")
    [record] = caplog.records
    assert record.getMessage().startswith("work.fail failed")


def test_a_log_that_is_broken(caplog: pytest.LogCaptureFixture) -> None:
    """A filter of the application's that raises is no reason to raise; the record is tried without the error."""

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
    """Type, text, arguments and traceback."""
    message = sent(raised(lambda: KeyError("bare", 3)))
    assert message.message == "work.fail raised KeyError: ('bare', 3)"
    assert (message.details["type"], message.details["args"]) == ("builtins.KeyError", ["bare", 3])
    assert message.details["trace"].startswith("Traceback (most recent call last):\n")
    assert message.details["trace"].endswith("KeyError: ('bare', 3)\n")


def test_an_error_of_ours_is_told_without_our_frames() -> None:
    """A handler that calls and fails is shown with its own line, and not with how a call is made."""
    bus = lightbus.create(service_name="caller")

    def handler(*features: Any) -> BaseException:
        bus.client.set_features(features)
        return AssertionError("not refused")

    trace = trace_of(raised(lambda: handler("nothing")))
    assert "bus.client.set_features(features)" in trace
    assert trace.splitlines()[-1].startswith("lightbus.exceptions.InvalidConfiguration: ")
    assert "lightbus/client/" not in trace
    assert "lightbus/client/" in trace_of(raised(lambda: handler(None)))  # a fault, and no error of ours


@pytest.mark.parametrize("carrier", [asyncio.__file__, "uvloop/loop.pyx"])
def test_a_failing_function_is_told_without_the_loop_that_ran_it(carrier: str) -> None:
    """Whichever loop it is: the first line is one of the user's."""
    names: dict[str, Any] = {}
    exec(compile("def run(function): function()", carrier, "exec"), names)

    def handler() -> None:
        raise ValueError("no database")

    with pytest.raises(ValueError, match="no database") as caught:
        names["run"](handler)
    first, *_, last = trace_of(caught.value.with_traceback(caught.tb.tb_next)).splitlines()[1:]
    assert first.endswith("in handler")
    assert last == "ValueError: no database"


def test_what_is_long_is_cut() -> None:
    """A text of megabytes does not keep the rest from its caller."""
    message = sent(raised(lambda: ValueError("x" * 3_000_000)), 10_000)
    assert message.message.startswith("work.fail raised ValueError: xxx")
    assert message.details["type"] == "builtins.ValueError"
    assert len(trace_of(raised(lambda: ValueError("x" * 3_000_000)))) == MAX_TRACE


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError, StopIteration])
def test_what_would_end_the_process_becomes_an_error(kind: type[BaseException]) -> None:
    """What would end the process or the task becomes an error that says what it was."""
    error = kind("3")
    made = as_exception("greeter", error)
    assert type(made) is RuntimeError
    assert str(made) == f"greeter raised {kind.__name__}: 3"
    assert made.__cause__ is error


def test_an_exception_stays_what_it_is() -> None:
    """Nothing is put around what is an Exception."""
    error = ValueError("oh")
    assert as_exception("greeter", error) is error
    assert (show(error), show(ValueError())) == ("ValueError: oh", "ValueError")


def test_the_class_is_not_asked() -> None:
    """What an exception says of its own class is not believed."""
    error = ODD["a class that lies"]()
    assert is_a(error, ValueError)
    assert not is_a(error, InvalidParameters)
    assert class_name(error, qualified=True) == "helpers.failing.Liar"
