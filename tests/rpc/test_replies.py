"""The reply to a call."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
from collections import Counter
from typing import Any

import pytest

from helpers.jobs import job_of
from lightbus.config import ApiSettings, Config
from lightbus.exceptions import (
    DeformError,
    InvalidParameters,
    JournalError,
    PayloadTooLarge,
    ValidationError,
)
from lightbus.rpc.job import Job
from lightbus.rpc.replies import Replies
from lightbus.service.execution import Execution
from lightbus.wire import envelope
from lightbus.wire.envelope import AnyMessage, Error, Result


class Bench:
    """Replies with their counters, for callers with a limited message size."""

    def __init__(self, most: int = 0, **settings: Any) -> None:
        self.counts: Counter[str] = Counter()
        self.replies = Replies(Config(**settings), self.counts, lambda caller: most)

    def error(self, job: Job, error: BaseException) -> Error:
        """Return the error that a caller gets."""
        message = decoded(self.replies.of_error(job, error))
        assert isinstance(message, Error)
        return message


def decoded(frame: bytes) -> AnyMessage:
    """Return the message of a reply to call 1."""
    call_id, message = envelope.decode(frame)
    assert call_id == 1
    return message


def in_user_code(job: Job) -> Job:
    """Return a call whose handler has begun."""
    job.in_user_code = True
    job.execution = Execution(None, None, job.served)  # type: ignore[arg-type]
    return job


@pytest.mark.parametrize("value", [None, 7, [1, {"a": b"b"}]])
def test_result_goes_under_the_calls_number(value: Any) -> None:
    """The reply has the number of the call."""
    assert decoded(Bench().replies.of_result(job_of(), value)) == Result(value)


def test_a_result_is_checked_against_its_annotation() -> None:
    """Unless the settings disable it."""
    with pytest.raises(ValidationError):
        Bench().replies.of_result(job_of("promise"), "no number")
    lax = job_of("promise", settings=ApiSettings(validate=False))
    assert decoded(Bench().replies.of_result(lax, "no number")) == Result("no number")


def test_a_result_that_cannot_be_sent() -> None:
    """The error names the procedure, and the place in the result."""
    with pytest.raises(DeformError, match=r"The result of work\.echo cannot be sent: .*object"):
        Bench().replies.of_result(job_of(), {"a": object()})


def test_a_result_that_is_too_large_for_the_caller() -> None:
    """Both limits are named, and the remedy."""
    with pytest.raises(PayloadTooLarge) as raised:
        Bench(most=2000).replies.of_result(job_of(), "x" * 3000)
    assert "the caller takes messages of 2000 (this process may send 67108864)" in str(raised.value)
    assert "raise network.max_message_size on both sides" in str(raised.value)
    assert Bench(most=4000).replies.of_result(job_of(), "x" * 3000)


def test_a_result_that_is_too_large_to_send() -> None:
    """Whatever the caller's limit is."""
    bench = Bench(most=10**9, network={"max_message_size": 2000})
    with pytest.raises(PayloadTooLarge, match="a message may have 2000\\. "):
        bench.replies.of_result(job_of(), "x" * 3000)


def test_small_results_are_sent_without_a_size_check() -> None:
    """A result of a kilobyte is also sent to a caller with a lower limit."""
    assert Bench(most=10).replies.of_result(job_of(), "x" * 900)


def test_an_error_of_the_handler(caplog: pytest.LogCaptureFixture) -> None:
    """It is counted, logged, and sent with its text; the call was executed."""
    bench, job = Bench(), in_user_code(job_of())
    error = bench.error(job, ValueError("no", 7))
    assert "ValueError" in error.message
    assert error.started
    assert (job.failed, bench.counts["failed"]) == (True, 1)
    assert "work.echo" in caplog.text


def test_an_error_in_the_call_itself(caplog: pytest.LogCaptureFixture) -> None:
    """It is the caller's error: not counted, not logged, and nothing was executed."""
    bench, job = Bench(), job_of()
    error = bench.error(job, InvalidParameters("there is no 'a'"))
    assert (error.code, error.message, error.started) == (InvalidParameters("").code, "there is no 'a'", False)
    assert (job.failed, bench.counts["failed"], caplog.text) == (True, 0, "")


def test_an_argument_error_of_a_nested_call_is_an_error_of_the_handler() -> None:
    """The same exception, raised by a call that the handler made, says nothing about the arguments of this call."""
    bench = Bench()
    error = bench.error(in_user_code(job_of()), InvalidParameters("of another call"))
    assert error.started
    assert error.code != InvalidParameters("").code
    assert bench.counts["failed"] == 1


@pytest.mark.parametrize("error", [asyncio.CancelledError(), concurrent.futures.CancelledError()])
def test_a_cancelled_call_gets_no_reply(error: BaseException) -> None:
    """A call that its caller has cancelled gets no reply; one that cancels itself gets an error."""
    given_up = job_of()
    given_up.cancelled = True
    bench = Bench()
    assert bench.replies.of_error(given_up, error) == b""
    assert not given_up.failed
    assert bench.error(in_user_code(job_of()), error).started


def test_another_error_of_a_cancelled_call_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """No caller waits for it, but it is a bug in the program."""
    job = in_user_code(job_of())
    job.cancelled = True
    assert Bench().replies.of_error(job, ValueError("in the finally"))
    assert "in the finally" in caplog.text


def test_a_full_disk_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """Every call that fires an event fails: the log must not fill the rest of the disk."""
    bench = Bench()
    with caplog.at_level(logging.WARNING):
        for _ in range(100):
            bench.error(in_user_code(job_of()), JournalError("The disk is full: make room."))
    assert bench.counts["failed"] == 100
    assert 0 < len(caplog.records) < 10


def test_an_error_is_shortened_to_the_callers_limit() -> None:
    """It is sent at any size, since the user could not do anything about a refusal."""
    frame = Bench(most=2000).replies.of_error(in_user_code(job_of()), ValueError("x" * 200_000))
    assert len(frame) <= 2000
    assert "ValueError" in decoded(frame).message  # type: ignore[union-attr]
