"""The one engine of a bus in a process: its node on a loop, and the channels through which other loops and threads go.

The node runs in a thread of its own, or, in a worker, on the user's loop; it can move. The channels stay: they see the
registry only as a snapshot, which is replaced as a whole.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ..adapters.host.platform import check_platform
from ..adapters.sqlite.outbox import HostOutbox
from ..config import Config
from ..core.registry import Peer, PeerLeft, Snapshot
from ..events.event_publisher import EventPublisher
from ..events.event_record import EventIds
from ..events.publishing.journal_set import JournalSet
from ..membership.context import Identity
from ..ports.discovery import DiscoveryFactory
from ..ports.outbox import EventOutbox
from ..ports.transport import Transport, TransportFactory
from ..rpc.calling import Caller
from ..rpc.channels import Channels, ThreadChannel
from ..wire.announcement import new_instance_id
from .event_backends import EventBackendChoice
from .forwarding import Forwarder
from .loop_host import LoopHost
from .network import Network
from .node import Node
from .node_questions import NodeQuestions

if TYPE_CHECKING:
    from .threads import HandlerThreads


__all__ = ["Engine", "ThreadChannel"]

T = TypeVar("T")

EXTRA_THREADS = 1000
"""Threads beyond `rpc_concurrency`, for nested calls, listeners and hooks. They are made only when needed."""


class Engine:
    """
    Everything of one bus in one process. Making it starts nothing; its `loop_host` does.

    Any thread may use it; what lives on the node's loop is reached through `loop_host.run`.

    Args:
        config: the settings.
        identity: the identity of this process.
        discovery: makes another discovery than that of the settings; called once per node.
        transport: makes another transport than ZeroMQ's.
        directory: where the sockets of mode host are, instead of the user's own directories (tests).
        outbox: stores events without a publisher, instead of the one on disk, which is not read then.

    """

    def __init__(
        self,
        config: Config,
        identity: Identity,
        *,
        discovery: DiscoveryFactory | None = None,
        transport: TransportFactory | None = None,
        directory: Path | None = None,
        outbox: EventOutbox | None = None,
    ) -> None:
        check_platform()
        self.config = config
        self.identity = identity
        self.snapshot = Snapshot()
        self.wanted: set[str] = set()
        self.max_message_size = config.network.max_message_size
        self.event_ids = EventIds(identity.instance)
        self.channels = Channels()
        self.publisher: EventPublisher | None = None
        """Publishes for this process, while it is a worker: see `publish_by`."""
        self.network = Network(config, identity.bus, discovery=discovery, transport=transport, directory=directory)
        self.journals = JournalSet(config, identity)
        self.outbox: EventOutbox = HostOutbox(self.journals.path) if outbox is None else outbox
        self.event_backends = EventBackendChoice(config)
        """Which APIs' events are kept elsewhere than in the journals."""
        self.loop_host = LoopHost(self)
        self._forwarder: Forwarder | None = None
        self._was_worker = False
        self._executor: HandlerThreads | None = None
        self._executor_lock = threading.Lock()
        self.questions = NodeQuestions(self.loop_host)
        """Questions about names, from any loop or thread."""
        self.resolve, self.resolve_blocking = self.questions.resolve, self.questions.resolve_blocking

    @property
    def node(self) -> Node | None:
        """The node, where there is one."""
        return self.loop_host.node

    @property
    def is_running(self) -> bool:
        """Whether there is a node."""
        return self.loop_host.is_running

    @property
    def transport(self) -> Transport:
        """Makes the sockets."""
        return self.network.transport

    @property
    def uses_disk(self) -> bool:
        """Whether journals of ended processes are looked for on this host, and looked after."""
        return self.outbox.is_on_disk

    @property
    def outbox_problems(self) -> list[str]:
        """Sentences about what waits in the outbox of this host, and is not taken, as far as this process tries."""
        return [] if self._forwarder is None else self._forwarder.problems

    @property
    def executor(self) -> HandlerThreads:
        """Return the threads for `def` functions of the user's, made at first use."""
        with self._executor_lock:
            if self._executor is None:
                from .threads import HandlerThreads

                limit = self.config.worker.rpc_concurrency + EXTRA_THREADS
                self._executor = HandlerThreads(limit)
            return self._executor

    def pause(self, seconds: float) -> Callable[[], None]:
        """Pause the node and its journals, and return the function that resumes them: for a fork."""
        go_on = self.loop_host.pause(seconds)
        use_journals = self.journals.pause(seconds)

        def resume() -> None:
            use_journals()
            go_on()

        return resume

    # What channels ask for

    def caller(self) -> Caller:
        """Return the channel of the running loop."""
        place, caller = self.loop_host.place, self.channels.callers.get(asyncio.get_running_loop())
        if caller is not None and place is not None and not place[1].is_closed():
            return caller  # as nearly always
        self.loop_host.ensure()
        return self.channels.caller(self)

    @property
    def where(self) -> str:
        """How and where peers are looked for, for messages; empty while there is no node."""
        return "" if self.node is None else self.node.where()

    # As the user of the node

    def peers_changed(self, node: Node, snapshot: Snapshot, left: Sequence[PeerLeft]) -> None:
        """Adopt a new snapshot, and fail what was pending at peers that left. On the node's loop."""
        if node is not self.node:
            return  # another one has followed it
        self.snapshot = snapshot
        for fact in left:
            self.channels.peer_left(fact)
        if self._forwarder is not None:
            self._forwarder.peers_changed()

    async def wait_until_no_new_requests(self, instance: str) -> None:
        """Return when no channel can send anything new to an instance that the snapshot no longer offers."""
        await self.channels.wait_until_no_new_requests(instance)

    async def wait_until_answered(self, instance: str) -> None:
        """Return when no channel awaits anything of an instance any more, or after a short while."""
        await self.channels.wait_until_answered(instance)

    # The end

    def close(self, *, at_exit: bool = False) -> None:
        """
        Close everything; bounded. From a plain thread (an event loop uses `close_async`).

        With `at_exit` loops that still run, which can only be those of daemon threads, are left alone: they are about
        to be killed, and would fail with a traceback that nobody needs.
        """
        if not self.loop_host.close():
            return
        in_use = self.loop_host.stop(at_exit=at_exit) + self.channels.close(at_exit=at_exit)
        if self._executor is not None:
            self._executor.shutdown()
        self.journals.close()
        self._close_transport_after(in_use)

    def _close_transport_after(self, in_use: list[Future[None]]) -> None:
        """Close the transport once its sockets are unused: now, or when the last busy loop releases them."""
        waiting = next((future for future in in_use if not future.done()), None)
        if waiting is None:
            self.transport.close()
        else:
            waiting.add_done_callback(lambda _: self._close_transport_after(in_use))

    async def close_async(self) -> None:
        """Close everything; bounded. A node on the running loop is stopped on it."""
        if self.is_running and self.loop_host.ensure()[1] is asyncio.get_running_loop():
            await self.loop_host.release()
        self.channels.close_own()
        await asyncio.to_thread(self.close)

    # As the owner of the node

    def publish_by(self, publisher: EventPublisher | None) -> None:
        """Have what this process fires published by this one from now on; None: by others. On the node's loop."""
        self.publisher = publisher

    def make_node(self) -> Node:
        """Return a node for the running loop, which continues with what the previous one knew."""
        if self._was_worker:
            # Others have seen this instance leave, and would not believe a rumour that it is back.
            self.identity = replace(self.identity, instance=new_instance_id())
            self._was_worker = False
        node = self._new_node([peer for peer in self.snapshot.peers.values() if peer.is_up])
        self.snapshot = node.registry.snapshot()
        self._forwarder = Forwarder(self, self.outbox)
        return node

    def node_left(self, known: Sequence[Peer], *, served: bool) -> None:
        """Record that there is no node now, which peers it saw up, and whether it was a worker's."""
        self._was_worker = self._was_worker or served
        self.publisher = None
        forwarder, self._forwarder = self._forwarder, None
        if forwarder is not None:
            forwarder.stop()
        # Calls on their way go on. New ones find nobody, and start a node to ask.
        self.snapshot = Snapshot(peers={peer.instance: peer for peer in known})

    # Parts

    def _new_node(self, known: Sequence[Peer]) -> Node:
        discovery = self.network.discovery()
        return Node(
            self,
            self.identity,
            self.transport,
            discovery,
            fixed_peers=self.config.discovery.peers,
            wait=self.config.discovery.wait,
            looked=discovery.describe,
            foreign_peers=discovery.foreign_peers,
            known=known,
        )
