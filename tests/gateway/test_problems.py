"""Tests of lightbus.gateway.problems: which error is which answer."""

from __future__ import annotations

import json

import pytest

from helpers.scripted_bus import peer
from lightbus import exceptions
from lightbus.exceptions import LightbusException, LightbusWorkerError
from lightbus.gateway.problems import Refusal, is_bus_error, problem_of
from lightbus.rpc.request import remote_error
from lightbus.wire.envelope import Error

STATUS = {
    "InvalidArguments": 422,
    "InvalidParameters": 422,
    "InvalidEventArguments": 422,
    "ValidationError": 422,
    "DeformError": 422,
    "PayloadTooLarge": 413,
    "UnknownProcedure": 404,
    "EventNotFound": 404,
    "UnknownApi": 503,
    "PeerUnreachable": 503,
    "PeerRefused": 503,
    "PeerBusy": 503,
    "NotReachable": 503,
    "EventBackendUnreachable": 503,
    "LightbusShutdownInProgress": 503,
    "LightbusTimeout": 504,
    "PeerLost": 502,
    "ProtocolError": 502,
    "LightbusWorkerError": 500,
    "JournalError": 500,
}


@pytest.mark.parametrize(("name", "status"), STATUS.items())
def test_each_error_has_its_status(name: str, status: int) -> None:
    """The status says whose error it is, and whether a retry is useful."""
    answer = problem_of(getattr(exceptions, name)("what happened"))
    told = json.loads(bytes(answer.body))
    assert answer.status_code == status == told["status"]
    assert answer.media_type == "application/problem+json"
    is_his = status in (413, 422) or name == "LightbusWorkerError"
    assert (told["detail"] == "what happened") is is_his
    assert told["error"] == getattr(exceptions, name).code
    assert ("retry-after" in answer.headers) is (status == 503)


@pytest.mark.parametrize(
    ("code", "words", "status"),
    [
        ("worker_error", "shop.price raised ValueError: air is free", 500),
        ("validation_error", "shop.price needs the argument 'product', which is missing.", 422),
    ],
)
def test_peer_is_left_out_of_errors(code: str, words: str, status: int) -> None:
    """The text of a worker names its process and host, which are removed; the rest stays."""
    who = peer("shop")
    error = remote_error(Error(code, words, True, {"type": "builtins.ValueError"}), who)
    assert str(who.announcement) in str(error)
    answer = problem_of(error)
    assert (answer.status_code, json.loads(bytes(answer.body))["detail"]) == (status, words)


def test_worker_that_takes_less_is_not_named() -> None:
    """The error about a message larger than a worker's limit has the limit, but not the worker."""
    who = peer("shop")
    words = f"The arguments take 9 bytes; {who.announcement} takes messages of 5 bytes."
    answer = problem_of(remote_error(Error("payload_too_large", words, False, {}), who))
    told = json.loads(bytes(answer.body))["detail"]
    assert (answer.status_code, told) == (413, "The arguments take 9 bytes; the worker takes messages of 5 bytes.")


def test_a_handler_whose_call_failed() -> None:
    """The text is of a host the client has nothing to do with: only the kind of the error is sent."""
    details = {"type": "lightbus.exceptions.PeerUnreachable"}
    words = "shop.price raised PeerUnreachable: nobody answers at tcp://10.0.0.3:4711"
    error = remote_error(Error("worker_error", words, True, details), peer("shop"))
    told = json.loads(bytes(problem_of(error).body))
    assert told["detail"] == (
        "What this needs of other services failed (PeerUnreachable); the log of `lightbus gateway` says how."
    )
    assert is_bus_error(error)


def test_any_error_has_an_answer() -> None:
    """Also errors that no call raises."""
    for name in exceptions.__all__:
        kind = getattr(exceptions, name)
        if isinstance(kind, type) and issubclass(kind, LightbusException):
            assert 400 <= problem_of(kind("x")).status_code < 600


def test_a_handlers_error_comes_without_its_traceback() -> None:
    """Its text is sent, but no line of the handler's code."""
    error = LightbusWorkerError("shop.price raised ValueError: air is free", trace='File "/srv/shop.py", line 3')
    told = bytes(problem_of(error).body).decode()
    assert "air is free" in told
    assert "/srv" not in told


@pytest.mark.parametrize("name", [name for name, status in STATUS.items() if status not in (413, 422)])
def test_errors_of_the_bus_reveal_nothing(name: str) -> None:
    """Clients learn no path, host or name from errors of the bus; a handler's text is sent."""
    if name != "LightbusWorkerError":
        error = getattr(exceptions, name)("nobody answers at ipc:///run/user/0/lightbus/host-root/a.rpc")
        assert b"host-root" not in bytes(problem_of(error).body)
        assert is_bus_error(error)


def test_an_invalid_result_is_not_the_callers_error() -> None:
    """Although its class is that of wrong arguments."""
    error = exceptions.PayloadTooLarge("The result of shop.all takes 99 bytes; a message may have 10.")
    assert problem_of(error).status_code == 500


def test_refusal_is_sent_with_any_text() -> None:
    """A text that no header and no JSON can hold does no harm."""
    answer = Refusal(429, "too_many", "half a \udcff", Retry_After="2").answer()
    assert json.loads(bytes(answer.body))["title"] == "Too Many Requests"
    assert answer.headers["retry-after"] == "2"
