"""
A command's connection to the bus: an ordinary client of it, from any directory, without a bus module.

A command is a coroutine with a `Connection` as its argument, which `on_bus` runs:

    @click.command()
    @client_options
    def peers(options: ClientOptions) -> None:
        on_bus(options, _peers)

    async def _peers(bus: Connection) -> int | None: ...

It returns the exit code. A LightbusException has its own (`exit_code`), Ctrl-C gives 130.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from ...adapters.host.nearby import written_announcements
from ...client import BusClient
from ...config import Config, load_config
from ...core.peers import Peer
from ...creation import configure_logging, create
from ...deadline import Deadline
from ...exceptions import LightbusException, LightbusTimeout, NotReachable, UnknownApi, UnknownProcedure
from ...wire.announcement import Announcement
from .contexts import environment
from .options import ClientOptions
from .output import Output, listed

__all__ = [
    "ENDED",
    "HINT",
    "INTERRUPTED",
    "SERVICE",
    "Connection",
    "UnansweredPeers",
    "ask_peer",
    "first_answer",
    "is_called",
    "on_bus",
    "passes",
    "stop_requested",
]

SERVICE = "lightbus-cli"
"""The service name of all commands; peers leave it out of their statistics of callers."""

STOPPING = (signal.SIGINT, signal.SIGTERM)
"""The signals that end a command."""

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 plus the signal's number, as in shells."""

ASK_TIMEOUT = 1.0
"""Seconds for a peer to answer a question about itself: it answers on its loop, which only a fault can block."""

ENDED = "has ended without a goodbye (was it killed?)"

HINT = "`lightbus doctor` looks for the reason."

ALIKE = {"host": "as the same user", "bus_key": "with the same key (lightbus keys show)"}
"""What a worker must have in common with this process to be found, by security mode."""

BusCommand = Callable[["Connection"], Awaitable[int | None]]

T = TypeVar("T")


class UnansweredPeers(dict[str, str]):
    """Instance of a running peer -> why it did not answer a question; the first such error."""

    def keep_only(self, there: Container[str]) -> None:
        """Forget instances that are gone."""
        for instance in [each for each in self if each not in there]:
            del self[instance]

    def note(self, peer: Peer, error: LightbusException) -> bool:
        """Record an error; return whether it is the peer's first. A procedure that an older version lacks is none."""
        if peer.instance in self or isinstance(error, UnknownApi | UnknownProcedure):
            return False
        self[peer.instance] = str(error)
        return True


class Connection:
    """
    The bus as a command sees it. Made and used on one event loop.

    Attributes:
        options: the options of the command line.
        context: the name of the context in use; empty for none.
        output: the output of the command.
        client: an ordinary client; `bus.client.engine.snapshot` has the known peers.
        silent: instances for which a note said that they do not answer.
        noted: instances for which a note said that they have ended.
        unanswered: by instance, the first error of a question that a running peer did not answer.

    """

    def __init__(self, options: ClientOptions, *, data_dir: Path | None = None, service: str = SERVICE) -> None:
        self.options = options
        self.output = Output(as_json=options.as_json, form=options.output_form)
        self.silent: set[str] = set()
        self.noted: set[str] = set()
        self.unanswered = UnansweredPeers()
        environ, self.context = environment(options.context)
        self.client: BusClient = create(_settings(options, data_dir, environ, service), service_name=service).client

    @property
    def name(self) -> str:
        """The name of the bus."""
        return self.client.engine.identity.bus

    @property
    def where(self) -> str:
        """How and where peers are discovered: `"bus 'shop', zeroconf on 192.0.2.7"`."""
        return self.client.engine.where

    def known(self) -> list[Peer]:
        """Return all peers known so far, in any state, in the order in which lists show them."""
        every = self.client.engine.snapshot.peers.values()
        return sorted((peer for peer in every if not self._has_ended(peer)), key=_order_of_peers)

    def ended(self) -> list[Announcement]:
        """
        Return the processes killed on this host, from the announcements they left; no other commands.

        The announcements are read again: this process's node forgets peers that refuse connections within a second.
        """
        places = self.client.engine.network.places
        if places is None:
            return []
        peers = self.client.engine.snapshot.peers
        announced = {instance: peer.announcement for instance, peer in peers.items()}
        announced |= {each.instance: each for each in written_announcements(self.name, places)}
        live = {instance for instance, peer in peers.items() if peer.is_live}
        silent = [each for each in announced.values() if each.service != SERVICE and each.instance not in live]
        return sorted((each for each in silent if places.has_ended(each.instance)), key=_order)

    def _has_ended(self, peer: Peer) -> bool:
        places = self.client.engine.network.places
        return not peer.is_live and places is not None and places.has_ended(peer.instance)

    async def discover_all(self) -> list[Peer]:
        """
        Discover all peers of the bus, and return all announced ones, including those that do not answer.

        It returns when no new peers are found, at the latest after `--wait` seconds. Raises NotReachable if there is
        no peer.
        """
        await self.client.engine.questions.discover_all(Deadline.after(self.options.wait))
        if not (peers := self.known()):
            raise self.empty_bus_error()
        return peers

    async def settle(self) -> None:
        """Do on the running loop what a thread does otherwise, and discover all peers: for a program that serves."""
        await self.client.engine.loop_host.settle()
        await self.client.engine.questions.discover_all(Deadline.after(self.options.wait))

    async def find(self, api: str) -> list[Peer]:
        """Return the peers that are up and advertise an API. Raises UnknownApi, PeerUnreachable, NotReachable."""
        engine = self.client.engine
        if await engine.questions.wait_for([api], Deadline.after(self.options.wait)):
            if not self.known():
                raise self.empty_bus_error()
            await engine.resolve(api, Deadline.after(ASK_TIMEOUT))  # raises the reason why there is none
        return sorted(engine.snapshot.by_api.get(api, ()), key=_order_of_peers)

    async def named(self, name: str, *, among: Sequence[Peer] | None = None) -> list[Peer]:
        """Return the live peers with this service or process name, or beginning of an instance. Raises NotReachable."""
        peers = await self.discover_all() if among is None else among
        found = [peer for peer in peers if _is_called(peer, name) and peer.is_live]
        if found:
            return found
        there = listed(sorted({peer.announcement.service for peer in peers}))
        which = "No live peer" if among is None else "None of the peers that serve it"
        raise NotReachable(f"{which} is called '{name}' ({self.where}). There are: {there}. {HINT}")

    async def ask(self, peer: Peer, procedure: str, *, timeout: float | None = None, **kwargs: Any) -> Any:
        """Call a procedure of a peer's own `internal.peer`, within `ASK_TIMEOUT`. Raises what a call raises."""
        return await ask_peer(self.client, peer, f"internal.peer.{procedure}", kwargs, timeout=timeout)

    async def ask_or_empty(self, peer: Peer, procedure: str, **kwargs: Any) -> dict[str, Any]:
        """
        Ask a peer as `ask` does; return {} without an answer: an older version may not have the procedure.

        Any other reason is written as a note, once for each peer.
        """
        try:
            answer = await self.ask(peer, procedure, **kwargs)
        except LightbusException as error:
            if self.unanswered.note(peer, error):
                self.output.note(f"Not shown: {error}")
            return {}
        return answer if isinstance(answer, dict) else {}

    async def ask_all(self, peers: Iterable[Peer], procedure: str, **kwargs: Any) -> list[dict[str, Any]]:
        """Ask several at once; return the answers in their order."""
        return [*await asyncio.gather(*(self.ask_or_empty(peer, procedure, **kwargs) for peer in peers))]

    def empty_bus_error(self) -> NotReachable:
        """Return the error for a bus without peers."""
        ended = "".join(f"{each} {ENDED}. " for each in self.ended())
        context = f" (context '{self.context}')" if self.context else ""
        alike = ALIKE.get(self.client.engine.transport.security.mode, "on the same network")
        return NotReachable(
            f"No peer is on the bus '{self.name}'{context}: looked for {self.options.wait:g} s ({self.where}). {ended}"
            f"Is a worker running (lightbus run), {alike}, with the same LIGHTBUS_BUS and LIGHTBUS_SECURITY? {HINT}"
        )

    async def close(self) -> None:
        """Leave the bus."""
        await self.client.close_async()


async def ask_peer(
    client: BusClient, peer: Peer, procedure: str, kwargs: Mapping[str, Any], *, timeout: float | None = None
) -> Any:
    """
    Call one peer's procedure (with its API), within `ASK_TIMEOUT` unless told otherwise. Raises what a call raises.

    The text of a LightbusTimeout says no more than that: the advice of a call's own is about programs that call.
    """
    api, _, name = procedure.rpartition(".")
    seconds = ASK_TIMEOUT if timeout is None else timeout
    try:
        return await client.call_rpc_remote(api, name, dict(kwargs), {"peer": peer.instance, "timeout": seconds})
    except LightbusTimeout as error:
        if isinstance(error, NotReachable):
            raise
        raise LightbusTimeout(f"{peer.announcement} did not answer {procedure} within {seconds:g} s.") from error


async def first_answer(peers: Sequence[Peer], question: Callable[[Peer], Awaitable[T]]) -> T:
    """
    Return the answer of one of several peers that would all answer the same.

    One peer is asked first, and twice as many each time that none of those asked answers: so some that hang cost little
    time, and those that do not are seldom asked in vain. Raises the first error if none answers.
    """
    failed: list[LightbusException] = []
    count = 1
    while peers:
        asked, peers = peers[:count], peers[count:]
        count *= 2
        for answer in await asyncio.gather(*map(question, asked), return_exceptions=True):
            if not isinstance(answer, BaseException):
                return answer
            if not isinstance(answer, LightbusException):
                raise answer
            failed.append(answer)
    raise failed[0]


def on_bus(
    options: ClientOptions, command: BusCommand, *, data_dir: Path | None = None, service: str = SERVICE
) -> None:
    """
    Run a command's coroutine on the bus, and end the program with the exit code that it returns.

    Args:
        options: the options of the command line.
        command: the coroutine function.
        data_dir: where the command stores events that it publishes, instead of the directory in the settings.
        service: the service name of the command.

    """
    configure_logging(options.log_level or "warning")
    try:
        code = asyncio.run(_run(options, command, data_dir, service))
    except KeyboardInterrupt:
        code = INTERRUPTED
    raise SystemExit(code or 0)


def stop_requested() -> asyncio.Event:
    """
    Return an event that Ctrl-C and SIGTERM set from now on: for a command whose normal end they are, with code 0.

    A second Ctrl-C ends the command as usual, at once: what it has still to do may hang.
    """
    done, loop = asyncio.Event(), asyncio.get_running_loop()

    def stop() -> None:
        done.set()
        for number in STOPPING:
            loop.remove_signal_handler(number)

    for number in STOPPING:
        loop.add_signal_handler(number, stop)
    return done


async def passes(event: asyncio.Event, seconds: float) -> bool:
    """Wait for an event for at most so many seconds; return whether it is set."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True


async def _run(options: ClientOptions, command: BusCommand, data_dir: Path | None, service: str) -> int | None:
    bus = Connection(options, data_dir=data_dir, service=service)
    try:
        return await command(bus)
    finally:
        await bus.close()


def _settings(options: ClientOptions, data_dir: Path | None, environ: Mapping[str, str], service: str) -> Config:
    given: dict[str, Any] = {"bus": {"name": options.bus_name}, "discovery": {"wait": options.wait}}
    if data_dir is not None:
        given["journal"] = {"data_dir": str(data_dir)}
    settings = load_config(config_file=options.config_file, service_name=service, overrides=given, environ=environ)
    # The plugins in a file are meant for services, and may not be installed here.
    return settings.model_copy(update={"plugins": {}})


def _order(announcement: Announcement) -> tuple[str, str, str]:
    return announcement.service, announcement.process, announcement.instance


def _order_of_peers(peer: Peer) -> tuple[str, str, str]:
    return _order(peer.announcement)


def is_called(name: str, service: str, process: str, instance: str) -> bool:
    """Return whether a name on the command line matches a peer: its service, its process, or the start of its id."""
    return name in (service, process) or (len(name) >= 4 and instance.startswith(name.lower()))


def _is_called(peer: Peer, name: str) -> bool:
    announcement = peer.announcement
    return is_called(name, announcement.service, announcement.process, announcement.instance)
