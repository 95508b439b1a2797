"""The tests mirror the package: lightbus/events/listening/sorting.py has tests/events/listening/test_sorting.py."""

from __future__ import annotations

from pathlib import Path

import lightbus

PACKAGE, TESTS = Path(lightbus.__path__[0]), Path(__file__).parent

NOTHING_TO_TEST = {
    "__about__.py",
    "typing.py",
    *("api.py", "schema.py", "hooks.py", "internal_apis.py", "client/utilities.py"),
    *("events/listening/consumer_context.py", "events/event_publisher.py"),
    "service/format_names.py",
    "contrib/django/apps.py",
    "contrib/django/outbox/apps.py",
    "utilities/testing.py",
}
"""Modules without behaviour of their own: names, values and protocols."""


def modules() -> set[str]:
    """Return the modules of the package, except those that only re-export, and migrations."""
    found = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py")}
    gather = ("__init__.py", "__main__.py")
    others = ("demo_", "/migrations/")
    found = {each for each in found if not each.endswith(gather) and not each.startswith("io/")}
    return {each for each in found if not any(part in each for part in others)}


def has_tests(module: str) -> bool:
    """Return whether a module has its test module."""
    directory, _, name = module.rpartition("/")
    return (TESTS / directory / f"test_{name}").exists()


def test_each_module_has_its_test_module() -> None:
    """Of the same name, in the directory of the same name."""
    assert {each for each in modules() if not has_tests(each)} - NOTHING_TO_TEST == set()


def test_the_list_of_those_without_only_shrinks() -> None:
    """A module on the list that has tests now, or is gone, must be removed from it."""
    assert {each for each in NOTHING_TO_TEST if each not in modules() or has_tests(each)} == set()
