from __future__ import annotations

from pathlib import Path

import pytest
from django.test import override_settings

import lightbus
from lightbus.contrib.django import DjangoPlugin, get_bus
from lightbus.contrib.django.project import module_name

MODULE = "import lightbus\nbus = lightbus.create(service_name='project')\n"


def test_bus_of_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The setting LIGHTBUS_MODULE names its module, else the variable; its handlers close old connections."""
    (tmp_path / "of_setting.py").write_text(MODULE)
    (tmp_path / "of_variable.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    assert module_name() is None
    monkeypatch.setenv("LIGHTBUS_MODULE", "of_variable")
    assert module_name() == "of_variable"
    with override_settings(LIGHTBUS_MODULE="of_setting"):
        bus = get_bus()
    assert bus is lightbus.get_bus("of_setting")
    assert isinstance(bus.client.hooks.functions("around_event_execution")[0].__self__, DjangoPlugin)  # type: ignore[attr-defined]


def test_no_bus_module() -> None:
    """One that is not there is named."""
    with override_settings(LIGHTBUS_MODULE="nowhere"), pytest.raises(lightbus.FailedToImportBusModule, match="nowhere"):
        get_bus()
