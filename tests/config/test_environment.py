"""A warning about misspelt environment variables, but not about those of other programs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import lightbus
from helpers import Processes
from lightbus.config import environment, load_config
from lightbus.config.environment import ENVIRONMENT, OTHER_VARIABLES


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the warnings of earlier tests."""
    monkeypatch.setattr(environment, "_warned", set())


@pytest.mark.parametrize(
    ("variable", "near"),
    [
        ("LIGHTBUS_BUS_NAME", "'LIGHTBUS_BUS"),
        ("LIGHTBUS_PEER", "'LIGHTBUS_PEERS'"),
        ("LIGHTBUS_DATADIR", "'LIGHTBUS_DATA_DIR'"),
        ("LIGHTBUS_NATS_SERVER", "'LIGHTBUS_NATS_SERVERS'"),
        ("LIGHTBUS_CONFIG_FILE", "'LIGHTBUS_CONFIG'"),
    ],
)
def test_a_misspelt_variable(caplog: pytest.LogCaptureFixture, variable: str, near: str) -> None:
    """It is logged once, with similar names, even if settings are loaded several times."""
    for _ in range(3):
        load_config(environ={variable: "shop"})
    [record] = caplog.records
    assert record.getMessage().startswith(f"{variable} in the environment is not a setting, and does nothing. Did you")
    assert near in record.getMessage()
    assert "shop" not in record.getMessage()  # it may be a key


@pytest.mark.parametrize(
    "variable",
    [
        "LIGHTBUS_SERVICE_HOST",
        "LIGHTBUS_SERVICE_PORT_RPC",
        "LIGHTBUS_PORT",
        "LIGHTBUS_PORT_5570_TCP_ADDR",
        "LIGHTBUS_SEED_SERVICE_PORT",
        "LIGHTBUS_SEED_PORT_5570_TCP",
        "LIGHTBUS_TEST_SCALE",
        "LIGHTBUSINESS",
        *sorted(OTHER_VARIABLES - {"LIGHTBUS_CONFIG"}),
    ],
)
def test_variables_of_others_are_not_warned_of(caplog: pytest.LogCaptureFixture, variable: str) -> None:
    """Variables that Kubernetes sets for a service of this name, and those read elsewhere, are ignored."""
    load_config(environ={variable: "1", "LIGHTBUS_PEERZ": " "})
    assert not caplog.records


def test_all_variables_are_known() -> None:
    """The list has exactly the variables that the package reads."""
    package = Path(lightbus.__file__).parent
    named = {
        name
        for path in package.rglob("*.py")
        if path != Path(environment.__file__)
        for name in re.findall(r"\bLIGHTBUS_[A-Z_]*[A-Z]\b", path.read_text())
    }
    assert named - set(ENVIRONMENT) == OTHER_VARIABLES


def test_it_is_seen_on_a_terminal(processes: Processes, tmp_path: Path) -> None:
    """Also without a logging setup, and without disturbing other output."""
    program = processes.python(
        "-c", "import lightbus; print(lightbus.load_config().bus.name)", cwd=tmp_path, env={"LIGHTBUS_BUSS": "shop"}
    )
    assert program.wait() == 0, program.report()
    assert "LIGHTBUS_BUSS in the environment is not a setting" in program.output
    assert "LIGHTBUS_BUSS" not in program.stdout
