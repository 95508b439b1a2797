"""A bus whose peers give prepared answers: for tests of commands."""

from __future__ import annotations

from typing import Any, TypeAlias

from lightbus.cli.support.connection import UnansweredPeers
from lightbus.core.peers import Peer, PeerState, Source
from lightbus.wire.announcement import Announcement

__all__ = ["Answer", "ScriptedBus", "peer"]

Answer: TypeAlias = dict[str, Any] | list[Any] | Exception | None


def peer(service: str = "auth", *, instance: str = "0" * 16, state: PeerState = PeerState.UP) -> Peer:
    """Return a worker."""
    announcement = Announcement(bus="b", instance=instance, service=service, process="one", host="h", apis=())
    return Peer(announcement=announcement, state=state, source=Source.SEED, changed_at=0.0)


class ScriptedBus:
    """
    Replaces a `Connection`: its peers give prepared answers; the last one is repeated.

    Attributes:
        peers: who is on the bus; each is asked in its turn.
        gone: who has ended.

    """

    def __init__(self, *answers: Answer, service: str = "auth") -> None:
        self.answers = [*answers]
        self.peers = [peer(service)]
        self.gone: list[Announcement] = []
        self.questions: list[dict[str, Any]] = []
        self.notes: list[str] = []
        self.watches_ended = 0
        self.silent: set[str] = set()
        self.noted: set[str] = set()
        self.unanswered = UnansweredPeers()
        self.client = self.engine = self.identity = self.output = self
        self.instance = "1" * 16

    def known(self) -> list[Peer]:
        """Return the peers."""
        return self.peers

    async def discover_all(self) -> list[Peer]:
        """Return the peers."""
        return self.peers

    def ended(self) -> list[Announcement]:
        """Return the peers that have ended."""
        return self.gone

    def note(self, text: str) -> None:
        """Record a remark."""
        self.notes.append(text)

    async def ask(self, peer: Peer, procedure: str, **question: Any) -> Any:
        """Return the next answer; count the end of a watch."""
        if procedure == "end_watch":
            self.watches_ended += 1
            return None
        self.questions.append(question)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def call_rpc_remote(self, api: str, procedure: str, question: dict[str, Any], options: dict[str, Any]) -> Any:
        """Return the next answer."""
        return await self.ask(self.peers[0], procedure, **question)
