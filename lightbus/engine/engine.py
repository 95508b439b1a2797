"""The one engine of a bus in a process: its node on a loop, and the channels of all event loops and plain threads.

The node runs in a thread of its own or, in a worker, on the user's loop; it can move between them. The channels stay:
they read only a snapshot of the registry, which is replaced as a whole.
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
"""Threads beyond `rpc_concurrency`, for nested calls, listeners and hooks. They are started only when needed."""


class Engine:
    """
    Everything of one bus in one process. The constructor starts nothing; `loop_host` does.

    Thread-safe; code that must run on the node's loop is passed to `loop_host.run`.

    Args:
        config: the settings.
        identity: the identity of this process.
        discovery: makes the discovery, in place of the one from the settings; called once per node.
        transport: makes the transport, in place of ZeroMQ's.
        directory: the directory of the sockets of mode host, in place of the user's own (for tests).
        outbox: stores events without a publisher, in place of the outbox on disk, which is then not used.

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
        """Publishes the events of this process while it is a worker; set by `publish_by`."""
        self.network = Network(config, identity.bus, discovery=discovery, transport=transport, directory=directory)
        self.journals = JournalSet(config, identity)
        self.outbox: EventOutbox = HostOutbox(self.journals.path) if outbox is None else outbox
        self.event_backends = EventBackendChoice(config)
        """The event backends of APIs whose events are not kept in the journals."""
        self.loop_host = LoopHost(self)
        self._forwarder: Forwarder | None = None
        self._was_worker = False
        self._executor: HandlerThreads | None = None
        self._executor_lock = threading.Lock()
        self.questions = NodeQuestions(self.loop_host)
        """Lookups of APIs and peers, from any loop or thread."""
        self.resolve, self.resolve_blocking = self.questions.resolve, self.questions.resolve_blocking

    @property
    def node(self) -> Node | None:
        """The node, if there is one."""
        return self.loop_host.node

    @property
    def is_running(self) -> bool:
        """Whether there is a node."""
        return self.loop_host.is_running

    @property
    def transport(self) -> Transport:
        """The transport that makes the sockets."""
        return self.network.transport

    @property
    def uses_disk(self) -> bool:
        """Whether this process maintains journals on disk, including those of ended processes of this host."""
        return self.outbox.is_on_disk

    @property
    def outbox_problems(self) -> list[str]:
        """Sentences about events in the outbox of this host that this process tried to hand off and could not."""
        return [] if self._forwarder is None else self._forwarder.problems

    @property
    def executor(self) -> HandlerThreads:
        """The threads for the user's `def` functions, made at first use."""
        with self._executor_lock:
            if self._executor is None:
                from .threads import HandlerThreads

                limit = self.config.worker.rpc_concurrency + EXTRA_THREADS
                self._executor = HandlerThreads(limit)
            return self._executor

    def pause(self, seconds: float) -> Callable[[], None]:
        """Pause the node and its journals for a fork, and return the function that resumes them."""
        resume_loop = self.loop_host.pause(seconds)
        resume_journals = self.journals.pause(seconds)

        def resume() -> None:
            resume_journals()
            resume_loop()

        return resume

    # For channels

    def caller(self) -> Caller:
        """Return the channel of the running loop."""
        place, caller = self.loop_host.place, self.channels.callers.get(asyncio.get_running_loop())
        if caller is not None and place is not None and not place[1].is_closed():
            return caller  # the usual case
        self.loop_host.ensure()
        return self.channels.caller(self)

    @property
    def where(self) -> str:
        """How and where peers are discovered, for messages; empty if there is no node."""
        return "" if self.node is None else self.node.where()

    # NodeUser

    def peers_changed(self, node: Node, snapshot: Snapshot, left: Sequence[PeerLeft]) -> None:
        """Replace the snapshot, and fail requests to peers that left. Call it on the node's loop."""
        if node is not self.node:
            return  # another node has replaced it
        self.snapshot = snapshot
        for fact in left:
            self.channels.peer_left(fact)
        if self._forwarder is not None:
            self._forwarder.peers_changed()

    async def wait_until_no_new_requests(self, instance: str) -> None:
        """Wait until no channel can send new requests to an instance that was removed from the snapshot; bounded."""
        await self.channels.wait_until_no_new_requests(instance)

    async def wait_until_answered(self, instance: str) -> None:
        """Wait until every request to an instance is answered; bounded."""
        await self.channels.wait_until_answered(instance)

    # The end

    def close(self, *, at_exit: bool = False) -> None:
        """
        Close everything; bounded. Call it from a plain thread (on an event loop, use `close_async`).

        With `at_exit`, loops that still run are left alone. They can only be those of daemon threads, which are about
        to be killed; closing their sockets would only cause a useless traceback.
        """
        if not self.loop_host.close():
            return
        in_use = self.loop_host.stop(at_exit=at_exit) + self.channels.close(at_exit=at_exit)
        if self._executor is not None:
            self._executor.shutdown()
        self.journals.close()
        self._close_transport_after(in_use)

    def _close_transport_after(self, in_use: list[Future[None]]) -> None:
        """Close the transport once its sockets are unused: now, or when the last busy loop has released them."""
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

    # Owner of the node

    def publish_by(self, publisher: EventPublisher | None) -> None:
        """Set the publisher of this process's events; None: other peers publish them. Call it on the node's loop."""
        self.publisher = publisher

    def make_node(self) -> Node:
        """Return a node for the running loop; it starts with the peers that the previous node knew."""
        if self._was_worker:
            # Other peers have seen this instance leave, and ignore reports that it is up again.
            self.identity = replace(self.identity, instance=new_instance_id())
            self._was_worker = False
        node = self._new_node([peer for peer in self.snapshot.peers.values() if peer.is_up])
        self.snapshot = node.registry.snapshot()
        self._forwarder = Forwarder(self, self.outbox)
        return node

    def node_left(self, known: Sequence[Peer], *, served: bool) -> None:
        """Record that the node is gone: the peers that it saw up, and whether it `served` as a worker."""
        self._was_worker = self._was_worker or served
        self.publisher = None
        forwarder, self._forwarder = self._forwarder, None
        if forwarder is not None:
            forwarder.stop()
        # Calls in progress continue. New calls find no peer in the snapshot, and start a node.
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
