"""A listener as it is declared."""

from __future__ import annotations

import functools
import pickle
import sys
import types
from importlib.machinery import ModuleSpec
from typing import Any

import pytest

from helpers.listeners import listener
from lightbus.listener import BatchFailed, Listener
from lightbus.message import EventMessage
from lightbus.service.execution import runs_on_loop


def test_an_object_with_an_async_call() -> None:
    """An object with an `async def __call__` counts as asynchronous."""

    class Greeter:
        async def __call__(self, message: EventMessage) -> None: ...

    assert runs_on_loop(listener(Greeter()).function)
    assert not runs_on_loop(listener(lambda: None).function)


def test_which_events_of_a_batch_failed() -> None:
    """They are named by themselves or by their ids, with a reason each or one for all, and survive pickling."""
    first, second = (EventMessage(api_name="auth", event_name="seen", id=f"id-{n}") for n in (1, 2))
    error = BatchFailed({first: KeyError("x"), "id-2": None})
    assert str(error) == "2 events failed: id-1, id-2"
    assert (repr(error.reasons["id-1"]), error.reasons["id-2"]) == ("KeyError('x')", error)
    error.__cause__ = cause = ValueError("locked")
    assert error.reasons["id-2"] is cause
    error.add_note("after a minute")
    copy = pickle.loads(pickle.dumps(error))
    assert ([*copy.reasons], copy.__notes__) == (["id-1", "id-2"], ["after a minute"])
    assert [[*BatchFailed(failed).reasons] for failed in (second, "id-2", [second])] == [["id-2"]] * 3
    with pytest.raises(TypeError, match=r"takes EventMessages, or their ids, and was given \{'n': 1\}"):
        BatchFailed([{"n": 1}])


def handle(message: EventMessage) -> None:
    """Handle an event."""


def other(message: EventMessage) -> None:
    """Handle it in another way."""


def digest(function: Any, name: str = "n") -> str:
    """Return the digest of a listener."""
    return Listener(api="auth", events=("seen",), name=name, function=function).digest


def test_programs_are_distinguished(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the module and the name of the function, and the listener's; of scripts also by their file."""
    wrapper = functools.wraps(handle)(lambda message: None)
    assert digest(handle) == digest(functools.partial(handle)) == digest(wrapper)
    assert len({digest(handle), digest(other), digest(handle, "m"), digest(functools.partial(print))}) == 4
    function = types.FunctionType(handle.__code__, {"__name__": "__main__"}, "handle")
    seen = []
    for spec, file in ((None, "/srv/mail.py"), (None, "/home/audit.py"), (ModuleSpec("shop.mail", None), "/x/mail.py")):
        main = types.SimpleNamespace(__spec__=spec, __file__=file)
        monkeypatch.setitem(sys.modules, "__main__", main)
        seen.append(digest(function))
    monkeypatch.setitem(sys.modules, "__main__", types.SimpleNamespace())  # typed in at a prompt
    assert len({*seen, digest(function)}) == 4


def test_a_listener_is_named_in_a_log() -> None:
    """Its text has its name and its events."""
    both = Listener(api="auth", events=("seen", "gone"), name="greeter", function=print)
    assert str(both) == "greeter of auth.seen, auth.gone"
