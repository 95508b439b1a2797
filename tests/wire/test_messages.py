"""The message table: every kind has a class, a number and a place in `AnyMessage`; later fields are optional."""

from __future__ import annotations

import typing

import pytest

from lightbus.wire import envelope, messages
from lightbus.wire.fields import checks_of
from lightbus.wire.messages import AnyMessage, Kind

CLASSES: list[type] = list(typing.get_args(AnyMessage))
PUBLISHED = {Kind.EVENTS, Kind.MARKER, Kind.HEAD}


def defaults_of(cls: type) -> dict[str, object]:
    """Return the defaults of the fields of a message."""
    defaults: dict[str, object] = getattr(cls, "_field_defaults")  # noqa: B009 - mypy knows no such thing of a type
    return defaults


def test_each_kind_has_its_class() -> None:
    """By its name, and no class is without a kind."""
    assert {kind.name.title() for kind in Kind} == {cls.__name__ for cls in CLASSES}
    assert len(CLASSES) == len(Kind)


def test_each_class_is_in_the_table() -> None:
    """Every message class is in `AnyMessage`: type checkers need it there, so no code can add it."""
    written = {each for each in vars(messages).values() if isinstance(each, type) and issubclass(each, tuple)}
    assert {each for each in written if each.__module__ == messages.__name__} == set(CLASSES)


def test_kind_numbers_never_change() -> None:
    """They are on the wire: from 1 on without a gap, published ones from 32 on; none is used again."""
    assert sorted(set(Kind) - PUBLISHED) == list(range(1, 28))
    assert sorted(PUBLISHED) == [32, 33, 34]
    assert (Kind.HELLO, Kind.REQUEST, Kind.RESULT, Kind.ACK, Kind.EVENTS) == (1, 3, 4, 19, 32)


def test_all_names_every_message() -> None:
    """Importing the table gives every message."""
    assert set(messages.__all__) == {cls.__name__ for cls in CLASSES} | {"Kind", "AnyMessage"}
    assert all(getattr(envelope, name) is getattr(messages, name) for name in messages.__all__)
    assert set(messages.__all__) <= set(envelope.__all__)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: str(cls.__name__))
def test_each_field_has_a_check(cls: type) -> None:
    """So every received value is checked."""
    assert len(checks_of(cls)) == len(typing.get_type_hints(cls))


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: str(cls.__name__))
def test_defaults_pass_their_checks(cls: type) -> None:
    """A missing field is as valid as a sent one."""
    checks = dict(zip(typing.get_type_hints(cls), checks_of(cls), strict=True))
    assert all(checks[name](value) for name, value in defaults_of(cls).items())


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: str(cls.__name__))
def test_each_message_is_explained(cls: type) -> None:
    """By its sender and its receiver."""
    assert cls.__doc__
    assert not cls.__doc__.startswith(f"{cls.__name__}(")  # the generated docstring of a NamedTuple
