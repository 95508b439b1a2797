"""Texts for values in messages: whatever the class does, the text can be sent."""

from __future__ import annotations

import inspect

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.failing import Liar
from lightbus import BusPath
from lightbus.client.options import LISTEN_OPTIONS
from lightbus.phrases import OF_LISTENERS, class_name, clean, hint_of_listener, safely, with_article


class Silent:
    """Raises whatever is asked of it."""

    def __str__(self) -> str:
        raise SystemExit(3)


@pytest.mark.parametrize(("name", "expected"), [("int", "an int"), ("str", "a str"), ("", "a "), ("Order", "an Order")])
def test_names_have_their_article(name: str, expected: str) -> None:
    """It goes by the first letter."""
    assert with_article(name) == expected


def test_hints_name_every_argument_of_a_listener() -> None:
    """Those that `listen` has now, besides the function itself; other keys have no hint."""
    arguments = {*inspect.signature(BusPath.listen).parameters} - {"self", "listener"}
    assert {*OF_LISTENERS} == arguments - {"bus_options"} | {*LISTEN_OPTIONS}
    assert hint_of_listener("batch") == " Each listener has its own: bus.<api>.<event>.listen(..., batch=...)."
    assert "bus_options={'since': ...}" in hint_of_listener("since")
    assert hint_of_listener("rpc_timeout") == ""


@given(st.text())
def test_control_characters_are_escaped(text: str) -> None:
    """No text of a peer reaches the terminal with a control character."""
    assert clean(text).isprintable()
    assert not text.isprintable() or clean(text) == text


def test_text_of_a_value_never_raises() -> None:
    """If `str()` of a value raises, the text says so; text that is not UTF-8 is escaped."""
    assert safely(str, 7) == "7"
    assert safely(str, Silent()) == "<str() of a Silent raised SystemExit>"
    assert safely(str, "a\udc80") == "a\\udc80"


def test_class_name_is_that_of_the_class() -> None:
    """It does not ask the metaclass, which may return something else."""
    assert class_name(7) == "int"
    assert class_name(7, qualified=True) == "builtins.int"
    assert class_name(Liar(), qualified=True) == "helpers.failing.Liar"
