"""What `lightbus top` shows at the moment, and what keys change of it."""

from __future__ import annotations

import pytest

from lightbus.cli.support.top_view import TopView


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (["s"], TopView(sort="service")),
        (["s", "x", "e"], TopView(sort="errors")),
        (["r"], TopView(by_procedure=True)),
        (["rr"], TopView()),
        (["/sq"], TopView(only="sq", is_typed=True)),
        (["/", "s", "h", "\x7f", "r", "\r", "v"], TopView(only="sr", sort="events")),
        (["/shop\n", "/"], TopView(is_typed=True)),
        (["/shop", "\x1b"], TopView()),
        (["/shop\r", "\x1b"], TopView(over=True)),
        (["/shop", "\x1b[A", "\t"], TopView(only="shop", is_typed=True)),
        (["q"], TopView(over=True)),
        (["\x1b"], TopView(over=True)),
        (["/\x03"], TopView(is_typed=True, over=True)),
        ([""], TopView(over=True)),
        (["\x1b[A"], TopView()),
    ],
)
def test_keys_sort_switch_filter_and_quit(keys: list[str], expected: TopView) -> None:
    """They sort, switch, begin and end a filter, and quit; what belongs to a filter does nothing else."""
    view = TopView()
    for each in keys:
        view.press(each)
    view.only = "" if view.over and not view.is_typed else view.only
    assert view == expected


@pytest.mark.parametrize(
    ("only", "names", "wanted"),
    [
        ("", ["shop"], True),
        ("HO", ["shop"], True),
        ("ho", ["auth", "shop"], True),
        ("ho", ["auth"], False),
        ("s*p", ["Shop"], True),
        ("s*o", ["shop"], False),
        ("[", ["shop"], False),
    ],
)
def test_filter_matches_a_part_of_the_name(only: str, names: list[str], wanted: bool) -> None:
    """A part of a name is enough, in any case; with a star the whole of it has to be so."""
    assert TopView(only=only).wants(names) is wanted


def test_keys_are_shown() -> None:
    """The last line has the help for the keys."""
    view = TopView()
    assert view.keys.startswith("by calls: s service, c calls")
    assert "r procedures, / only some; q quits" in view.keys
    assert TopView(only="sh").keys.startswith("only 'sh', by calls: ")
    view.press("r/sh")
    assert view.keys == "only: sh_ (Enter keeps it, Esc shows all)"
