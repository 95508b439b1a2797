"""The context of a running listener: whether arguments are cast, and how they are checked."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from lightbus.config import Config
from lightbus.events.listening.listener_context import ListenerContext
from lightbus.exceptions import ValidationError
from lightbus.service.api import Api, ApiRegistry, Event, Parameter
from lightbus.service.hooks import HookRegistry


class Auth(Api):
    seen = Event([Parameter("n", int), Parameter("what", str, default="it")])
    left = Event([Parameter("at", datetime)])

    class Meta:
        name = "auth"


def context(**settings: Any) -> ListenerContext:
    apis = ApiRegistry()
    apis.add(Auth())
    return ListenerContext(
        config=Config.model_validate({"apis": {"auth": settings}, "network": {"max_message_size": 2**21}}),
        apis=apis, hooks=HookRegistry(), client=None, executor=None,
        on_fatal=lambda listener, error: None, caught_up=lambda: None,
    )  # fmt: skip


@pytest.mark.parametrize("casts", [True, False])
def test_casting_is_a_setting_of_the_api(casts: bool) -> None:
    """And the message size is one of the process."""
    made = context(cast_values=casts)
    assert (made.casts("auth"), made.casts("other"), made.max_message_size) == (casts, True, 2**21)


def test_arguments_of_a_known_event_are_completed_and_checked() -> None:
    """Invalid arguments are refused; for an event or API that is not registered here, nothing is checked."""
    made = context()
    check = made.check_of("auth", "seen")
    assert check is not None
    assert check({"n": 1}) == {"n": 1, "what": "it"}
    with pytest.raises(ValidationError):
        check({"n": "one"})
    assert (made.check_of("auth", "other"), made.check_of("other", "seen")) == (None, None)


def test_arguments_are_cast_to_the_events_declaration() -> None:
    """If the handler has no annotations; arguments without a declared type stay unchanged."""
    check = context().check_of("auth", "left", casts=True)
    assert check is not None
    at = datetime(2026, 1, 31, tzinfo=UTC)
    assert check({"at": at.isoformat(), "later": 1}) == {"at": at, "later": 1}
    assert check({"at": at}) == {"at": at}


def test_checking_can_be_disabled() -> None:
    """Defaults are filled in all the same."""
    check = context(validate={"incoming": False}).check_of("auth", "seen")
    assert check is not None
    assert check({"n": "one"}) == {"n": "one", "what": "it"}
