"""Which databases a project's worker relays from."""

from __future__ import annotations

from typing import Any

import pytest
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured


def test_relay_uses_the_databases_of_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the setting, else `default`."""
    from lightbus.contrib.django.outbox.relays import relays

    assert [each.name for each in relays()] == ["of the database 'default'"]
    monkeypatch.setattr(settings, "OUTBOX_DATABASES", [], raising=False)
    assert relays() == []


@pytest.mark.parametrize("wrong", ["default", ["default", "other"]])
def test_databases_that_there_are_not(monkeypatch: pytest.MonkeyPatch, wrong: Any) -> None:
    """The error lists the existing ones."""
    from lightbus.contrib.django.outbox.relays import relays

    monkeypatch.setattr(settings, "OUTBOX_DATABASES", wrong, raising=False)
    with pytest.raises(ImproperlyConfigured, match="a list of aliases among those of DATABASES: default"):
        relays()
