"""Following events: how often it looks. The rest is tested with `lightbus tail` and `record`, against real workers."""

from __future__ import annotations

import asyncio
from datetime import datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest

from lightbus.cli.support.connection import Connection
from lightbus.cli.support.following import EventFollower


class Client:
    """A client of a bus with one API for users."""

    def __init__(self) -> None:
        self.worker = None
        self.listened: list[tuple[Any, ...]] = []
        self.engine = SimpleNamespace(snapshot=SimpleNamespace(events={("auth", "seen"): [], ("internal.x", "y"): []}))

    def set_features(self, features: Any) -> None:
        """Take what the worker is to do."""

    def listen_for_event(self, api: str, event: str, listener: Any, **options: Any) -> None:
        """Record a listener."""
        self.listened.append((api, event, options["group"], options["options"]))

    async def start_worker(self) -> None:
        """Start nothing."""


@pytest.mark.parametrize(
    ("since", "pause", "options"), [(None, 1.0, None), ("0", 0.1, {"since": "0"})], ids=["from now on", "what is kept"]
)
def test_it_checks_more_often_while_it_reads_stored_events(
    since: str | datetime | None, pause: float, options: Any
) -> None:
    """It listens to each user API once, without a group; held-back events are checked ten times a second."""
    client = Client()
    bus = cast(Connection, SimpleNamespace(client=client))
    follower = EventFollower(bus, lambda message: None, is_wanted=lambda message: True, since=since, name="n")
    asyncio.run(follower.begin())
    follower.look()
    assert (follower.apis, client.listened) == (["auth"], [("auth", "*", None, options)])
    assert (follower.pause, follower.is_replaying) == (pause, since is not None)
