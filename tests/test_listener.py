"""A listener as it is declared."""

from __future__ import annotations

from helpers.listeners import listener
from lightbus.listener import Listener
from lightbus.message import EventMessage
from lightbus.service.execution import runs_on_loop


def test_an_object_with_an_async_call() -> None:
    """What is awaitable is told by how it is called."""

    class Greeter:
        async def __call__(self, message: EventMessage) -> None: ...

    assert runs_on_loop(listener(Greeter()).function)
    assert not runs_on_loop(listener(lambda: None).function)


def test_a_listener_is_named_in_a_log() -> None:
    """Its name, and what it listens to."""
    both = Listener(api="auth", events=("seen", "gone"), name="greeter", function=print)
    assert str(both) == "greeter of auth.seen, auth.gone"
