"""Connections to a worker's ROUTER: how it answers, how it is lost, and which of its addresses wins."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from helpers import MS, scaled, wait_until_async
from helpers.surroundings import Surroundings
from helpers.waiting import LEAST
from lightbus.adapters.host.places import Places
from lightbus.adapters.zmq.bound_sockets import Router
from lightbus.adapters.zmq.curve import KeySecurity
from lightbus.adapters.zmq.security import HostSecurity, Security
from lightbus.adapters.zmq.transport import ZmqTransport
from lightbus.config.keys import BusKey
from lightbus.membership import link as module
from lightbus.membership.link import Dial, Link
from lightbus.membership.running_clock import LONGEST_STEP
from lightbus.ports.transport import LinkState
from lightbus.wire import envelope
from lightbus.wire.announcement import Announcement
from lightbus.wire.envelope import AnyMessage, Drain, Drained, Error, Goodbye, Hello, Peers, Result, Welcome

OWN, THEIR, OTHER = ("0" * 16, "a" * 16, "b" * 16)
AT_ONCE = 500 * MS


class FakeNode:
    """A node that introduces us, and records what is reported to it."""

    def __init__(self) -> None:
        self.announces: dict[str, Any] | None = None
        self.welcomes: list[Link] = []
        self.pushed: list[AnyMessage] = []
        self.ended: list[tuple[str, bool]] = []
        self.dialled: list[tuple[Link | None, str, bool]] = []
        self.attempts: list[Dial] = []

    def hello(self, target: str) -> Hello:
        return Hello("b", target, OWN, "s", "p", "", self.announces)

    def on_established(self, link: Link, announcement: Announcement, welcome: Welcome) -> None:
        self.welcomes.append(link)

    def on_message(self, link: Link, message: AnyMessage) -> None:
        self.pushed.append(message)

    def on_closed(self, link: Link, reason: str, *, refused: bool) -> None:
        self.ended.append((reason, refused))

    def done(self, dial: Dial, link: Link | None, reason: str, refused: bool) -> None:
        self.dialled.append((link, reason, refused))
        self.attempts.append(dial)


class FakeWorker:
    """A ROUTER that answers each message as the test says."""

    def __init__(self, place: Place, endpoint: str, *answers: bytes | AnyMessage) -> None:
        self.heard: list[AnyMessage] = []
        self.answers = [answer if isinstance(answer, bytes) else envelope.encode(answer) for answer in answers]
        self.router: Router = place.transport.router(self._on_message)
        self.endpoint = self.router.bind(endpoint)
        self._from = b""

    def say(self, message: AnyMessage) -> None:
        """Push a message to the last sender."""
        self.router.send(self._from, envelope.encode(message))

    def _on_message(self, routing_id: bytes, frame: bytes) -> None:
        self._from = routing_id
        self.heard.append(envelope.decode(frame)[1])
        for answer in self.answers:
            self.router.send(routing_id, answer)


class Place:
    """The environment of a test on one event loop; `run` closes everything made in it."""

    def __init__(self, directory: Path, security: Security | None = None, *, heartbeat_timeout: float = LEAST) -> None:
        self.transport = ZmqTransport(
            security or HostSecurity(places=Places.only(directory)),
            heartbeat_interval=0.1,
            heartbeat_timeout=heartbeat_timeout,
        )
        self.node = FakeNode()
        self._directory = directory
        self._opened: list[Any] = []

    def file(self, name: str) -> str:
        """Return the endpoint of a socket file."""
        return f"ipc://{self._directory}/{name}"

    def worker(self, *answers: bytes | AnyMessage, endpoint: str = "tcp://127.0.0.1:*") -> FakeWorker:
        """Bind a worker."""
        made = FakeWorker(self, endpoint, *answers)
        self._opened.append(made.router)
        return made

    def link(self, endpoint: str, target: str = THEIR, fingerprint: str = "") -> Link:
        """Open a link."""
        made = Link(self.node, self.transport, endpoint, target=target, fingerprint=fingerprint)
        self._opened.append(made)
        return made

    def dial(self, *endpoints: str, target: str = THEIR) -> Dial:
        """Dial a peer."""
        made = Dial(self.node, self.transport, endpoints, self.node.done, target=target)
        self._opened.append(made)
        return made

    def run(self, scenario: Callable[[], Awaitable[None]]) -> None:
        """Run a scenario, and close everything."""

        async def main() -> None:
            try:
                await scenario()
            finally:
                for opened in [*self._opened, *self.node.welcomes]:
                    opened.close()

        try:
            asyncio.run(main())
        finally:
            self.transport.close()


@pytest.fixture
def place(surroundings: Surroundings) -> Place:
    """Return a place with a directory for socket files."""
    return Place(surroundings.runtime)


@pytest.fixture
def silent() -> Iterator[str]:
    """Return the endpoint of a listener that accepts connections and sends nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"tcp://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture(params=["ipc", "tcp"])
def nobody(request: pytest.FixtureRequest, place: Place) -> str:
    """Return an endpoint without a listener."""
    return place.file("nobody.rpc") if request.param == "ipc" else "tcp://127.0.0.1:1"


def welcome(instance: str = THEIR, bus: str = "b") -> Welcome:
    """Return the answer to HELLO."""
    said = Announcement(bus=bus, instance=instance, service="s", process="p", host="h", apis=())
    return Welcome(said.to_wire(), "", 0.0, False)


# One connection


@pytest.mark.parametrize("kind", ["ipc", "tcp"])
@pytest.mark.parametrize("target", ["", THEIR])
def test_answer_of_a_worker_is_reported_with_its_instance(place: Place, kind: str, target: str) -> None:
    """A worker that answers HELLO is reported, with its instance; its further messages are passed on."""

    async def scenario() -> None:
        worker = place.worker(welcome(), endpoint=place.file("x.rpc") if kind == "ipc" else "tcp://127.0.0.1:*")
        link = place.link(worker.endpoint, target)
        await wait_until_async(lambda: place.node.welcomes)
        assert worker.heard == [Hello("b", target, OWN, "s", "p", "", None)]
        assert (place.node.welcomes, link.instance, link.established) == ([link], THEIR, True)
        pushed: list[AnyMessage] = [Peers([], [OTHER]), Drain(), Goodbye(THEIR)]
        for message in pushed:
            worker.say(message)
        await wait_until_async(lambda: len(place.node.pushed) == len(pushed))
        assert place.node.pushed == pushed

    place.run(scenario)


def test_messages_of_a_link(place: Place) -> None:
    """HELLO is repeated on demand with the present announcement; then drained and goodbye; nothing after closing."""

    async def scenario() -> None:
        worker = place.worker(welcome())
        link = place.link(worker.endpoint)
        await wait_until_async(lambda: place.node.welcomes)
        assert not link.introduced
        place.node.announces = {"v": 1}
        link.send_hello()
        assert link.introduced
        link.drained()
        link.close(OWN)
        link.close(OWN)
        link.drained()
        link.send_hello()
        await wait_until_async(lambda: len(worker.heard) == 4)
        assert worker.heard[1:] == [Hello("b", THEIR, OWN, "s", "p", "", {"v": 1}), Drained(), Goodbye(OWN)]

    place.run(scenario)


def test_closed_port_is_known_at_once(place: Place, nobody: str) -> None:
    """Without a listener, the failure is reported at once, and as certain."""

    async def scenario() -> None:
        place.link(nobody)
        await wait_until_async(lambda: place.node.ended, AT_ONCE)
        assert place.node.ended == [("is not there: nothing listens at its address", True)]

    place.run(scenario)


def test_socket_file_of_an_ended_process(place: Place) -> None:
    """A socket file whose process has ended counts as missing."""

    async def scenario() -> None:
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(place.file("dead.rpc").removeprefix("ipc://"))
        place.link(place.file("dead.rpc"))
        await wait_until_async(lambda: place.node.ended, AT_ONCE)
        assert place.node.ended == [("is not there: nothing listens at its address", True)]

    place.run(scenario)


def test_another_program_listens(place: Place) -> None:
    """A program with another protocol ends the link."""

    async def scenario() -> None:
        async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n" * 3)
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(speak, "127.0.0.1", 0)
        async with server:
            place.link(f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}")
            await wait_until_async(lambda: place.node.ended, AT_ONCE)
        [(reason, refused)] = place.node.ended
        # libzmq may take it for a peer of ZMTP 1.0, which had no handshake.
        assert reason.startswith(("breaks off the handshake: it may require a key", "sent an invalid message"))
        assert not refused

    place.run(scenario)


@pytest.mark.parametrize("kind", ["ipc", "tcp"])
def test_worker_disconnects(place: Place, kind: str) -> None:
    """The end of a connection is reported at once, and once."""

    async def scenario() -> None:
        worker = place.worker(welcome(), endpoint=place.file("x.rpc") if kind == "ipc" else "tcp://127.0.0.1:*")
        place.link(worker.endpoint)
        await wait_until_async(lambda: place.node.welcomes)
        worker.router.close()
        await wait_until_async(lambda: place.node.ended, AT_ONCE)
        place.worker(welcome(), endpoint=worker.endpoint)
        other = place.link(worker.endpoint)  # the ended link does not come back
        await wait_until_async(lambda: other in place.node.welcomes)
        assert place.node.ended == [("went away", False)]
        assert len(place.node.welcomes) == 2

    place.run(scenario)


def test_silence_instead_of_a_handshake(surroundings: Surroundings, silent: str) -> None:
    """A listener that never completes the handshake is given up after the heartbeat timeout."""
    place = Place(surroundings.runtime, heartbeat_timeout=0.5)

    async def scenario() -> None:
        place.link(silent)
        await wait_until_async(lambda: place.node.ended)
        assert [refused for _, refused in place.node.ended] == [False]

    place.run(scenario)


@pytest.mark.parametrize(
    ("answer", "reason", "refused"),
    [
        (welcome(OTHER), "is another process now", True),
        (welcome(bus="other"), "is on the bus 'other'", False),
        (Error("peer_refused", "go away.", False, {}), "refused us: go away.", False),
        (Error("peer_refused", "x" * 1_000_000, False, {}), "refused us: xxx", False),
        (Result(1), "sent an invalid message: A Result message does not belong", False),
        (Welcome({}, "", 0.0, False), "sent an invalid message: ", False),
        (b"nonsense", "sent an invalid message: ", False),
    ],
    ids=["instance", "bus", "refusal", "long refusal", "misplaced", "announcement", "nonsense"],
)
def test_wrong_welcome_is_reported_with_the_reason(
    place: Place, answer: bytes | AnyMessage, reason: str, refused: bool
) -> None:
    """A process with any answer but the right WELCOME is not the peer; the reason is reported."""

    async def scenario() -> None:
        worker = place.worker(answer)
        place.link(worker.endpoint)
        await wait_until_async(lambda: place.node.ended)
        [(said, was_refused)] = place.node.ended
        assert said.startswith(reason)
        assert len(said) < 1000  # it is logged, and shown in errors
        assert was_refused is refused
        assert place.node.welcomes == []

    place.run(scenario)


def test_nothing_counts_before_the_welcome(place: Place) -> None:
    """Messages of a process that has not answered HELLO are ignored."""

    async def scenario() -> None:
        worker = place.worker(Drain(), Peers([], [OTHER]), welcome())
        place.link(worker.endpoint)
        await wait_until_async(lambda: place.node.welcomes)
        assert place.node.pushed == []

    place.run(scenario)


# One attempt, at several addresses


def test_first_to_answer_wins(place: Place, nobody: str, silent: str) -> None:
    """Of several addresses, the one with the right answer wins, whatever the others do; it is reported once."""

    async def scenario() -> None:
        liar, worker = place.worker(welcome(OTHER)), place.worker(welcome())
        place.dial(nobody, silent, liar.endpoint, worker.endpoint)
        await wait_until_async(lambda: place.node.dialled, AT_ONCE)
        [(link, reason, refused)] = place.node.dialled
        assert (place.node.welcomes, reason, refused) == ([link], "", False)
        assert link is not None
        assert link.endpoint == worker.endpoint
        worker.router.close()  # from now on the node is told
        await wait_until_async(lambda: place.node.ended, AT_ONCE)
        assert len(place.node.dialled) == 1

    place.run(scenario)


def test_no_listener_at_any_address(place: Place, nobody: str) -> None:
    """An attempt at addresses without a listener ends at once, and is certain."""

    async def scenario() -> None:
        place.dial(nobody, place.file("neither.rpc"), "tcp://127.0.0.1:2")
        await wait_until_async(lambda: place.node.dialled, AT_ONCE)
        assert place.node.dialled == [(None, "is not there: nothing listens at its address", True)]

    place.run(scenario)


def test_one_address_is_silent(place: Place, nobody: str, silent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one address may still answer, the attempt continues; when its time is over, the failure is not certain."""
    monkeypatch.setattr(module, "HELLO_TIMEOUT", 200 * MS)

    async def scenario() -> None:
        started = asyncio.get_running_loop().time()
        place.dial(nobody, silent)
        await wait_until_async(lambda: place.node.dialled)
        assert asyncio.get_running_loop().time() - started >= 200 * MS
        [(link, _, refused)] = place.node.dialled
        assert (link, refused) == (None, False)

    place.run(scenario)


def test_an_attempt_does_not_end_while_the_process_does_not_run(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """While we do not get the processor, the peer may not get it either: that time does not count."""
    monkeypatch.setattr(module, "HELLO_TIMEOUT", 4 * LONGEST_STEP)

    async def scenario() -> None:
        place.dial(place.worker().endpoint)  # it is there, and does not answer
        time.sleep(5 * LONGEST_STEP)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not place.node.dialled
        await wait_until_async(lambda: place.node.dialled)

    place.run(scenario)


@pytest.mark.parametrize("answers", [True, False], ids=["handshake", "nothing"])
def test_failed_attempt_says_whether_it_was_connected(
    place: Place, silent: str, monkeypatch: pytest.MonkeyPatch, answers: bool
) -> None:
    """An attempt whose time is over says whether the handshake had succeeded: then the peer's process is there."""

    async def scenario() -> None:
        dial = place.dial(place.worker().endpoint if answers else silent)
        if answers:
            await wait_until_async(lambda: dial._links[0].is_connected)
        monkeypatch.setattr(dial, "_until", 0.0)
        await wait_until_async(lambda: place.node.dialled)
        assert dial.is_connected == answers

    place.run(scenario)


def test_timeout_grows_with_the_round_trip_time(place: Place, silent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An attempt waits for as many round trips as an answer takes, once the round trip time is known."""
    monkeypatch.setattr(module, "HELLO_TIMEOUT", LEAST)  # however long it takes here to reach somebody
    round_trip, dealer = 40 * MS, place.transport.dealer

    def far_away(endpoint: str, on_message: Any, *, on_state: Callable[[LinkState], None], **options: Any) -> Any:
        loop = asyncio.get_running_loop()

        def reached(state: LinkState) -> None:
            monkeypatch.setattr(module, "HELLO_TIMEOUT", 100 * MS)
            on_state(state)

        return dealer(
            endpoint, on_message, on_state=lambda state: loop.call_later(round_trip, reached, state), **options
        )

    async def scenario() -> None:
        began = time.monotonic()
        monkeypatch.setattr(place.transport, "dealer", far_away)
        place.dial(silent)
        await wait_until_async(lambda: place.node.dialled)
        assert time.monotonic() - began >= module.HELLO_TIMEOUT + (1 + module.ROUND_TRIPS) * round_trip

    place.run(scenario)


@pytest.mark.parametrize("endpoints", [(), ("no endpoint",)], ids=["none", "impossible"])
def test_no_address_at_all(place: Place, endpoints: tuple[str, ...]) -> None:
    """An attempt without a usable address fails like any other, and not before its constructor has returned."""

    async def scenario() -> None:
        place.dial(*endpoints)
        assert place.node.dialled == []
        await wait_until_async(lambda: place.node.dialled)
        [(link, _, refused)] = place.node.dialled
        assert (link, refused) == (None, False)

    place.run(scenario)


def test_closed_attempt_reports_nothing(place: Place, nobody: str) -> None:
    """A closed attempt reports nothing any more."""

    async def scenario() -> None:
        worker = place.worker(welcome())
        closed = [place.dial(worker.endpoint), place.dial(nobody)]
        for each in closed:
            each.close()
        place.dial(nobody)
        place.dial(worker.endpoint)
        await wait_until_async(lambda: len(place.node.dialled) == 2)
        assert not {*closed}.intersection(place.node.attempts)

    place.run(scenario)


def test_links_closed_at_any_moment(place: Place, nobody: str) -> None:
    """Whenever a link is closed during an event of its connection, nothing hangs (libzmq's thread once did)."""

    async def scenario() -> None:
        worker = place.worker(welcome())
        for number in range(scaled(2000)):
            with ExitStack() as stack:
                for endpoint in (worker.endpoint, nobody):
                    stack.callback(Link(place.node, place.transport, endpoint, target=THEIR).close)
                await asyncio.sleep(0.0002 * (number % 10))

    place.run(scenario)


def test_links_of_a_closed_loop(place: Place, silent: str) -> None:
    """Links that a loop leaves open when it is closed can be closed without it."""

    async def scenario() -> tuple[FakeWorker, Dial]:
        worker = FakeWorker(place, "tcp://127.0.0.1:*", welcome())
        Link(place.node, place.transport, worker.endpoint, target=THEIR)
        await wait_until_async(lambda: place.node.welcomes)
        return worker, Dial(place.node, place.transport, [silent], place.node.done)

    worker, dial = asyncio.run(scenario())
    dial.abandon()
    place.node.welcomes[0].abandon()
    worker.router.abandon()
    place.transport.close()
    assert place.node.dialled == []


# --- keys -------------------------------------------------------------------------------------------

OUR_KEY, OTHER_KEY = BusKey.generate(), BusKey.generate()


@pytest.fixture
def keyed(surroundings: Surroundings) -> Place:
    """Return a place in mode bus_key."""
    return Place(surroundings.runtime, KeySecurity(keys=[OUR_KEY], addresses=["127.0.0.1"]))


@pytest.fixture
def other(surroundings: Surroundings) -> Iterator[Place]:
    """Return a place with another key."""
    made = Place(surroundings.runtime, KeySecurity(keys=[OTHER_KEY], addresses=["127.0.0.1"]))
    yield made
    made.transport.close()


def test_a_worker_with_our_key(keyed: Place) -> None:
    """A worker with the same key is answered as without keys."""

    async def scenario() -> None:
        worker = keyed.worker(welcome())
        link = keyed.link(worker.endpoint)
        await wait_until_async(lambda: keyed.node.welcomes)
        assert keyed.node.welcomes == [link]
        assert not link.denied

    keyed.run(scenario)


@pytest.mark.parametrize("kind", ["another key", "no key"])
def test_a_worker_with_another_key_or_none(keyed: Place, other: Place, place: Place, kind: str) -> None:
    """The link ends at once, and the error says whose keys to compare."""

    async def scenario() -> None:
        worker = (other if kind == "another key" else place).worker(welcome())
        link = keyed.link(worker.endpoint)
        await wait_until_async(lambda: keyed.node.ended, AT_ONCE)
        [(reason, refused)] = keyed.node.ended
        fingerprint = OUR_KEY.fingerprint
        assert reason.startswith(f"breaks off the handshake: it has another key than ours ({fingerprint}), or none")
        assert (refused, link.denied) == (False, True)
        assert keyed.node.welcomes == []
        worker.router.close()

    keyed.run(scenario)
    place.transport.close()


def test_a_worker_that_announces_another_key(keyed: Place) -> None:
    """A worker with our key that announces another one, or none, is not added: no peer could connect to it."""

    async def scenario() -> None:
        worker = keyed.worker(welcome())
        keyed.link(worker.endpoint, fingerprint=OUR_KEY.fingerprint)
        await wait_until_async(lambda: keyed.node.ended)
        assert keyed.node.ended == [(f"says that its key is none, and uses {OUR_KEY.fingerprint}", False)]

    keyed.run(scenario)


def test_an_attempt_that_is_denied(keyed: Place, other: Place) -> None:
    """A denial by a listener takes precedence over another address without a listener."""

    async def scenario() -> None:
        worker = other.worker(welcome())
        dial = keyed.dial("tcp://127.0.0.1:1", worker.endpoint)
        await wait_until_async(lambda: keyed.node.dialled)
        [(link, reason, refused)] = keyed.node.dialled
        assert (link, refused, dial.denied) == (None, False, True)
        assert reason.startswith("breaks off the handshake")
        worker.router.close()

    keyed.run(scenario)


def test_a_key_that_we_do_not_have_is_not_tried(keyed: Place) -> None:
    """A peer that is announced with another key is not dialed."""

    async def scenario() -> None:
        worker = keyed.worker(welcome())
        dial = Dial(keyed.node, keyed.transport, [worker.endpoint], keyed.node.done, fingerprint=OTHER_KEY.fingerprint)
        await wait_until_async(lambda: keyed.node.dialled)
        [(link, reason, _)] = keyed.node.dialled
        assert (link, dial.denied) == (None, True)
        assert reason == (f"is not asked: it has the key {OTHER_KEY.fingerprint}, and ours is {OUR_KEY.fingerprint}")
        assert worker.heard == []
        assert keyed.transport.gate is not None
        assert keyed.transport.gate.refused == 0

    keyed.run(scenario)
