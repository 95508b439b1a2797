"""Which databases a project's worker relays from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import connections


def test_relay_uses_the_databases_of_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the setting, else `default`."""
    from lightbus.contrib.django.outbox.relays import relays

    assert [each.name for each in relays()] == ["of the database 'default'"]
    monkeypatch.setattr(settings, "OUTBOX_DATABASES", [], raising=False)
    assert relays() == []


def test_place_is_that_of_the_database(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another project's `default` is another outbox; whoever uses this database by another library shares this one."""
    from lightbus.contrib.django.outbox.relays import relays

    sqlalchemy = pytest.importorskip("sqlalchemy")
    from lightbus.contrib.sqlalchemy.outbox import Outbox, _place

    def place() -> str:
        [relay] = relays()
        return relay.place

    here = place()
    assert here == _place(sqlalchemy.create_engine(f"sqlite:///{database}"), Outbox(sqlalchemy.MetaData()).table)
    monkeypatch.setitem(connections["default"].settings_dict, "NAME", str(database.with_name("other.sqlite3")))
    assert place() != here


@pytest.mark.parametrize("wrong", ["default", ["default", "other"]])
def test_databases_that_there_are_not(monkeypatch: pytest.MonkeyPatch, wrong: Any) -> None:
    """The error lists the existing ones."""
    from lightbus.contrib.django.outbox.relays import relays

    monkeypatch.setattr(settings, "OUTBOX_DATABASES", wrong, raising=False)
    with pytest.raises(ImproperlyConfigured, match="a list of aliases among those of DATABASES: default"):
        relays()
