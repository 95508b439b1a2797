"""The dashboard's view of workers on other hosts: lost ones, and those that were stopped on purpose."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.lan import Host, Lan, within
from lightbus.config.keys import BusKey

pytest.importorskip("starlette", reason="the extra dashboard is not installed")

PROGRAMS = Path(__file__).parent / "programs"

pytestmark = pytest.mark.network


def overviews(host: Host, url: str, token: str) -> Iterator[dict[str, Any]]:
    """Return the stream of the first page of a dashboard on a host."""
    port = int(url.rstrip("/").rpartition(":")[2])
    asked = f"GET /api/stream/overview HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\n\r\n"
    with within(host.namespace, lambda: socket.create_connection(("127.0.0.1", port), timeout=60)) as connection:
        connection.sendall(asked.encode())
        with connection.makefile("rb") as lines:
            for line in lines:
                if line.startswith(b"data: "):
                    yield json.loads(line.removeprefix(b"data: "))


def test_lost_and_stopped_workers_are_distinguished(lan: Lan, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker killed on another host is named, with a place to look; one stopped on purpose is not."""
    monkeypatch.setenv("LIGHTBUS_BUS_KEY", BusKey.generate().text)
    hosts = [lan.host(number) for number in (1, 2, 3)]
    killed, stopped, other = [host.worker("lan_worker", PROGRAMS) for host in hosts]
    for each in (killed, stopped, other):
        each.wait_for_line("Ready")
    dashboard = hosts[2].lightbus("dashboard", "--port", "0", "--json")
    told = overviews(hosts[2], **json.loads(dashboard.wait_for_line(r"^\{.*\}$")[0]))

    def until(what: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        return next(each for each in told if what(each))

    until(lambda each: each["totals"]["processes"] == 3 and each["examined"])
    stopped.signal(signal.SIGTERM)
    assert stopped.wait() == 0, stopped.report()
    until(lambda each: each["totals"]["processes"] == 2)
    killed.signal(signal.SIGKILL)
    killed.wait()

    def is_all_known(shown: dict[str, Any]) -> bool:
        """Return whether the loss is shown, and no finding of the other worker's stop any more."""
        texts = [each["text"] for each in shown["findings"]]
        return any("without a goodbye" in each for each in texts) and not any("at-h2" in each for each in texts)

    shown = until(is_all_known)
    [lost] = [each for each in shown["findings"] if "without a goodbye" in each["text"]]
    assert lost["text"].startswith("at-h1 ")
    assert "log on h1 " in lost["remedy"]
    told.close()  # type: ignore[attr-defined]
