"""The messages that hooks and listeners take."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lightbus.message import EventMessage, ResultMessage, RpcMessage, event_message
from lightbus.typing import Kwargs


def test_call_shows_no_values_in_a_log() -> None:
    """A call knows its name and arguments, and does not show their values in a log."""
    message = RpcMessage(api_name="auth", procedure_name="check", kwargs={"user": "x", "password": "secret"}, id="7")
    assert (message.id, message.native_id, message.canonical_name) == ("7", "", "auth.check")
    assert repr(message) == "<RpcMessage auth.check(user, password)>"
    assert RpcMessage(api_name="auth", procedure_name="check").kwargs == {}


def test_result_names_its_call_and_whether_it_failed() -> None:
    """A result has the id of its call, and shows whether the handler raised."""
    message = ResultMessage(result=True, rpc_message_id="7", api_name="auth", procedure_name="check")
    assert (message.result, message.rpc_message_id, message.error, message.trace) == (True, "7", False, "")
    assert repr(message) == "<ResultMessage result of auth.check>"
    failed = ResultMessage(result=ValueError(), rpc_message_id="7", error=True, trace="t")
    assert repr(failed) == "<ResultMessage error of .>"


def test_event_keeps_its_id_over_deliveries() -> None:
    """An event has the same id on every delivery, and shows whether this is the first."""
    message = EventMessage(api_name="auth", event_name="seen", kwargs={"user": "x"}, id="4f2a-1", publisher="4f2a")
    assert (message.id, message.canonical_name, message.procedure_name) == ("4f2a-1", "auth.seen", "seen")
    assert (message.deliveries, message.redelivered, message.version) == (1, False, 1)
    assert repr(message) == "<EventMessage auth.seen(user) id=4f2a-1>"
    message.deliveries = 2
    assert message.redelivered


def test_native_id_is_journal_and_sequence() -> None:
    """The native id is journal and sequence, or empty if no journal has the event."""
    assert EventMessage(api_name="a", event_name="b", native_id="j-7").native_id == "j-7"
    for where, told in ((("j", 7), "j-7"), (("", 7), ""), ("", "")):
        message = event_message("a", "b", {"n": 1}, 2, "id", where, 3, 1.5, "p", {"traceparent": "x"})
        assert message.native_id == told
    assert (message.api_name, message.event_name, message.kwargs, message.version) == ("a", "b", {"n": 1}, 2)
    assert (message.id, message.deliveries, message.published_at, message.publisher) == ("id", 3, 1.5, "p")
    assert message.trace == {"traceparent": "x"}
    message.native_id = "k-8"
    assert message.native_id == "k-8"


@pytest.mark.parametrize(
    "make",
    [
        lambda kwargs: EventMessage(api_name="a", event_name="b", kwargs=kwargs),
        lambda kwargs: RpcMessage(api_name="a", procedure_name="b", kwargs=kwargs),
    ],
)
def test_the_arguments_are_the_given_ones(make: Callable[[Kwargs | None], EventMessage | RpcMessage]) -> None:
    """A hook that changes the arguments changes what is sent; a message without arguments has its own dict."""
    given: Kwargs = {}
    assert make(given).kwargs is given
    assert make(None).kwargs is not make(None).kwargs
