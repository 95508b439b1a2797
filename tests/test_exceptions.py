"""The tree of errors: what crosses the wire, and what the command line makes of it."""

from __future__ import annotations

import pickle
import re
from collections import Counter

import pytest

from lightbus import exceptions
from lightbus.exceptions import (
    LightbusException,
    LightbusTimeout,
    LightbusWorkerError,
    NotReachable,
    UnknownApi,
    ValidationError,
    did_you_mean,
)

CLASSES = [
    value
    for name in exceptions.__all__
    if isinstance(value := getattr(exceptions, name), type) and issubclass(value, LightbusException)
]


def test_every_error_has_its_own_code() -> None:
    """No two classes share a code: the code is all that crosses the wire."""
    codes = Counter(cls.code for cls in CLASSES)
    assert [code for code, count in codes.items() if count > 1] == []
    assert all(re.fullmatch("[a-z_]+", code) for code in codes)


def test_all_are_in_the_tree() -> None:
    """Every class is public and is drawn in the module's docstring."""
    assert exceptions.__doc__ is not None
    assert [cls.__name__ for cls in CLASSES if cls.__name__ not in exceptions.__doc__] == []


@pytest.mark.parametrize("cls", CLASSES)
def test_exit_codes_tell_what_to_do(cls: type[LightbusException]) -> None:
    """Each class ends the command line with an error."""
    assert cls.exit_code in (1, 2, 3, 4, 5, 6)


def test_base_classes_of_exceptions() -> None:
    """Errors are caught by their groups, and by the classes of Python."""
    assert issubclass(UnknownApi, NotReachable)
    assert issubclass(LightbusTimeout, TimeoutError)
    assert issubclass(ValidationError, exceptions.InvalidParameters)
    assert issubclass(ValidationError, exceptions.InvalidEventArguments)


def test_an_error_of_the_worker_shows_the_remote_traceback() -> None:
    """The message comes first, then the traceback; without a traceback there is only the message."""
    plain = LightbusWorkerError("auth.check raised ValueError: no")
    assert str(plain) == "auth.check raised ValueError: no"
    full = LightbusWorkerError("it failed", trace="line 1\nline 2", peer="auth-service 4f2a… on host web-1")
    assert str(full) == ("it failed\n\nTraceback of the peer auth-service 4f2a… on host web-1:\n\nline 1\nline 2")
    assert "of the peer that executed it:" in str(LightbusWorkerError("it failed", trace="line 1"))


def test_an_error_of_the_worker_survives_pickling() -> None:
    """A pool of processes hands it on whole."""
    error = LightbusWorkerError("no", remote_type="builtins.ValueError", remote_args=[1, "b"], trace="t", peer="p")
    error.add_note("the third of its kind")
    copy = pickle.loads(pickle.dumps(error))
    assert copy.__notes__ == ["the third of its kind"]
    assert (copy.args, copy.remote_type, copy.remote_args, copy.trace, copy.peer) == (
        ("no",),
        "builtins.ValueError",
        (1, "b"),
        "t",
        "p",
    )


@pytest.mark.parametrize(
    ("name", "known", "text"),
    [
        ("atuh", ["auth", "shop"], " Did you mean 'auth'?"),
        ("user", ["users", "user_s", "shop"], " Did you mean 'users' or 'user_s'?"),
        ("xyz", ["auth"], ""),
        ("auth", [], ""),
        ("auth" * 1000, ["auth" * 999], ""),
    ],
)
def test_near_names_of_a_misspelt_name_are_suggested(name: str, known: list[str], text: str) -> None:
    """Similar names are suggested for a misspelt name, but not for an absurdly long one."""
    assert did_you_mean(name, known) == text


def test_unknown_api_is_a_timeout_too() -> None:
    """Programs for 1.x catch a timeout if no peer serves an API; other timeouts are of calls that were made."""
    for kind in (exceptions.UnknownApi, exceptions.PeerUnreachable):
        assert issubclass(kind, exceptions.LightbusTimeout)
        assert issubclass(kind, exceptions.NotReachable)
        assert kind("nobody").exit_code == exceptions.NotReachable.exit_code
    assert not issubclass(exceptions.PeerBusy, exceptions.LightbusTimeout)
