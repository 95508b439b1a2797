"""The live events of a dashboard and of a gateway: what they cost the publishers, over real sockets."""

from __future__ import annotations

import json
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import lightbus
from helpers import Processes, wait_until
from helpers.processes import Process
from lightbus import Api, BusPath, Event
from lightbus.events.publishing.publisher import Publisher
from lightbus.wire import envelope
from lightbus.wire.envelope import PRESENCE_PREFIX

pytest.importorskip("starlette", reason="the extra dashboard is not installed")
pytest.importorskip("uvicorn", reason="the extra dashboard is not installed")

TOKEN = "a-token-of-twenty-four-or-more"


class ChatApi(Api):
    posted = Event(["text"])
    typing = Event(["text"], delivery="best_effort")

    class Meta:
        name = "chat"


class Subscriptions:
    """
    The subscriptions at the publisher of this process, as libzmq reports them: it sends nothing but for these.

    Attributes:
        topics: those in force, without signs of presence.
        presences: the signs of presence that there were, one for each connection for events.

    """

    def __init__(self) -> None:
        self.topics: set[bytes] = set()
        self.presences: set[bytes] = set()

    def note(self, topic: bytes, *, subscribed: bool) -> None:
        """Record that a subscription began or ended."""
        if topic.startswith(PRESENCE_PREFIX):
            self.presences.add(topic)
        elif not envelope.is_marker_topic(topic):
            (self.topics.add if subscribed else self.topics.discard)(topic)


@pytest.fixture
def subscriptions(monkeypatch: pytest.MonkeyPatch) -> Subscriptions:
    """Return the subscriptions at the publisher of this process."""
    seen, subscribed = Subscriptions(), Publisher.subscribed

    def note(self: Publisher, topic: bytes, is_new: bool) -> None:
        seen.note(topic, subscribed=is_new)
        subscribed(self, topic, is_new)

    monkeypatch.setattr(Publisher, "subscribed", note)
    return seen


@pytest.fixture
def chat(subscriptions: Subscriptions) -> Iterator[BusPath]:
    """Return a worker in this process."""
    bus = lightbus.create(service_name="chat")
    bus.client.register_api(ChatApi())
    bus.client.start_in_background()
    yield bus
    bus.client.close()


@contextmanager
def stream(url: str, token: str) -> Iterator[Iterator[bytes]]:
    """Open a stream of events, and give its lines."""
    asked = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(asked, timeout=60) as answer:
        yield iter(answer.readline, b"")


def dashboard(processes: Processes, directory: Path) -> tuple[Process, str, str]:
    """Start a dashboard; return it, the address of its events, and the token."""
    process = processes.lightbus("dashboard", "--port", "0", "--json", "--wait", "20", cwd=directory)
    told = json.loads(process.wait_for_line(r"^\{.*\}$")[0])
    return process, f"{told['url']}api/events", told["token"]


def gateway(processes: Processes, directory: Path) -> tuple[Process, str, str]:
    """Start a gateway; return it, the address of its events, and the token."""
    process = processes.lightbus("gateway", "--port", "0", "--allow", "chat.*", "--json", "--wait", "20", cwd=directory)
    told = json.loads(process.wait_for_line(r"^\{.*\}$")[0])
    return process, f"{told['url']}api/chat/typing", told["token"]


def until_told(lines: Iterator[bytes], bus: BusPath, text: str) -> None:
    """Fire events until the stream tells of one: those before the publisher knows of the stream are not for it."""
    ended = threading.Event()

    def fire() -> None:
        while not ended.wait(0.05):
            bus.chat.typing.fire(text=text)

    firing = threading.Thread(target=fire)
    firing.start()
    try:
        assert any(text.encode() in line for line in lines)
    finally:
        ended.set()
        firing.join()


@pytest.mark.parametrize("start", [dashboard, gateway])
def test_publishers_send_nothing_without_viewers(
    start: Callable[..., tuple[Process, str, str]],
    chat: BusPath,
    subscriptions: Subscriptions,
    processes: Processes,
    tmp_path: Path,
) -> None:
    """From the last viewer on until the next one, who gets events over the same connection; it is no worker."""
    process, url, token = start(processes, tmp_path)
    own = chat.client.engine.identity.instance
    wait_until(lambda: is_answered(url, token))
    for number in range(3):
        with stream(url, token) as lines:
            until_told(lines, chat, f"hello-{number}")
            assert subscriptions.topics
            assert set(chat.client.engine.snapshot.peers) == {own}
        wait_until(lambda: not subscriptions.topics)
        assert len(subscriptions.presences) == 1
    process.ask_to_end()
    assert process.wait() == 0, process.report()


def is_answered(url: str, token: str) -> bool:
    """Return whether there is a stream: a gateway first has to find a publisher."""
    try:
        with stream(url, token):
            return True
    except OSError:
        return False


@pytest.mark.parametrize("start", [dashboard, gateway])
def test_a_publisher_that_is_restarted(
    start: Callable[..., tuple[Process, str, str]], chat: BusPath, processes: Processes, tmp_path: Path
) -> None:
    """An open stream tells of its events again."""
    _, url, token = start(processes, tmp_path)
    wait_until(lambda: is_answered(url, token))
    with stream(url, token) as lines:
        until_told(lines, chat, "before")
        chat.client.request_shutdown()
        wait_until(lambda: not chat.client.is_worker)
        chat.client.start_in_background()
        until_told(lines, chat, "after")
