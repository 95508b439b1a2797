"""Fixtures of the contracts of event backends: the settings of each, and a server for the one that needs it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.nats_servers import NatsServer
from helpers.own import settings_of


@pytest.fixture
def event_settings(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the settings `events` of an API. One's own backend finds an empty directory."""
    monkeypatch.chdir(tmp_path)
    events = settings_of(request.param)
    if request.param == "jetstream":
        events["servers"] = request.getfixturevalue("nats_server")
    return events


@pytest.fixture
def nats_server() -> Iterator[str]:
    """Run a server, and return its URL."""
    with NatsServer() as server:
        yield server.url
