"""The description of one API in a peer's announcement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..exceptions import InvalidConfiguration, ProtocolError
from .announced_fields import (
    MAX_DIGEST,
    MAX_FINGERPRINT,
    as_tuple,
    check_int,
    check_name,
    check_names,
    check_text,
    reading,
)

__all__ = ["ApiInfo", "compute_digest"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiInfo:
    """
    One API of a peer.

    Attributes:
        version: `Meta.version` of the Api class.
        internal: whether it is hidden from listings (`Meta.internal`).
        digest: digest of its schema; empty while unknown.
        best_effort: the events that are not journaled.
        keeps: whether the peer only serves events that ended processes of the API's own service left behind: it
            accepts no calls and no events of the API.

    Raises:
        InvalidConfiguration: a name or a number cannot be announced.

    """

    name: str
    procedures: tuple[str, ...] = ()
    events: tuple[str, ...] = ()
    version: int = 1
    internal: bool = False
    digest: str = ""
    best_effort: tuple[str, ...] = ()
    keeps: bool = False

    def __post_init__(self) -> None:
        check_name("API name", self.name)
        check_names(f"procedures of {self.name}", self.procedures)
        check_names(f"events of {self.name}", self.events)
        check_names(f"best-effort events of {self.name}", self.best_effort)
        check_int(f"version of {self.name}", self.version, 0, 2**31 - 1)
        check_text(f"schema digest of {self.name}", self.digest, MAX_FINGERPRINT, empty=True)
        if type(self.internal) is not bool:
            raise InvalidConfiguration(f"the mark 'internal' of {self.name} is {self.internal!r:.40}, no boolean")
        if type(self.keeps) is not bool:
            raise InvalidConfiguration(f"the mark 'keeps' of {self.name} is {self.keeps!r:.40}, no boolean")
        if not set(self.best_effort) <= set(self.events):
            raise InvalidConfiguration(f"the best-effort events of {self.name} are not all among its events")

    def __str__(self) -> str:
        return f"{self.name} ({len(self.procedures)} procedures, {len(self.events)} events)"

    def to_wire(self) -> list[Any]:
        """Return the fields in order, as plain msgpack values."""
        return [
            self.name,
            list(self.procedures),
            list(self.events),
            self.version,
            self.internal,
            self.digest,
            list(self.best_effort),
            *([True] if self.keeps else []),
        ]

    @classmethod
    def from_wire(cls, value: object) -> ApiInfo:
        """Read the output of `to_wire`; items after the eighth are of a later version. Raises ProtocolError."""
        with reading("the description of an API"):
            items = as_tuple("fields of an API", value)
            if len(items) < 7:
                raise ProtocolError(f"the description of an API has {len(items)} items instead of 7")
            name, procedures, events, version, internal, digest, best_effort, *more = items
            return cls(
                name=name,
                procedures=as_tuple("procedures", procedures),
                events=as_tuple("events", events),
                version=version,
                internal=internal,
                digest=digest,
                best_effort=as_tuple("best-effort events", best_effort),
                keeps=bool(more) and more[0] is True,
            )


def compute_digest(apis: Sequence[ApiInfo]) -> str:
    """Return a digest of the API set, 16 hexadecimal digits; no order matters."""
    import hashlib  # imported here: a process that only calls announces nothing

    digest = hashlib.sha256()
    for api in sorted(apis, key=lambda api: api.name):
        lists = (sorted(names) for names in (api.procedures, api.events, api.best_effort))
        digest.update(repr((api.name, *lists, api.version, api.internal, api.digest)).encode())
    return digest.hexdigest()[:MAX_DIGEST]
