"""The sections of the configuration: every setting with its type, unit, default and bounds.

They know nothing of files, of the environment or of how errors are worded. Where one of pydantic's own names is
in the way, the attribute is called otherwise than the key (`validation` for `validate`, `options` for `schema`).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from .fields import Addresses, BusKeys, BusName, Count, Directory, Limit, MessageSize, Peers, Port, Seconds, Wait
from .keys import BusKey

__all__ = [
    "ApiSettings",
    "BusSettings",
    "DiscoverySettings",
    "EventsSettings",
    "JournalSettings",
    "NetworkSettings",
    "PluginSettings",
    "SchemaSettings",
    "SecuritySettings",
    "Settings",
    "ValidationSettings",
    "WorkerSettings",
]

_NOT_YET = "is not available in this version of Lightbus; security.mode can be host, bus_key or insecure"


_ENCRYPTED = frozenset(
    {"curve", "curvezmq", "curve25519", "secure", "security", "encrypt", "encrypted", "tls", "ssl", "key", "lan"}
)
"""What is written for a mode that encrypts."""


class Settings(BaseModel):
    """A section of the configuration: it cannot be changed, and has no key that is not declared."""

    # Inputs are hidden, since pydantic would print a key or a password into a traceback.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _both_ways(value: Any) -> Any:
    """Take `validate: false` for both directions at once."""
    return {"outgoing": value, "incoming": value} if isinstance(value, bool) else value


class SchemaSettings(Settings):
    """`bus.schema`."""

    human_readable: bool = Field(default=True, description="Indent the JSON that dumpschema writes.")
    ttl: Seconds = Field(default=3600.0, description="Seconds for which a peer's schema is remembered.")


class BusSettings(Settings):
    """`bus`."""

    name: BusName | None = Field(
        default=None,
        description="Buses of different names do not see each other. Without one, each user of a host has an own bus.",
    )
    log_level: Annotated[Literal["debug", "info", "warning", "error", "critical"], BeforeValidator(_lower)] = Field(
        default="info", description="What `lightbus run` logs."
    )
    options: SchemaSettings = Field(default=SchemaSettings(), alias="schema")

    def __call__(self) -> Self:
        """Return the section itself: `config.bus()` is its form in 1.x."""
        return self


class ValidationSettings(Settings):
    """`apis.<name>.validate`."""

    outgoing: bool = Field(default=True, description="Check what this process sends.")
    incoming: bool = Field(default=True, description="Check what this process receives.")


class EventsSettings(Settings):
    """`apis.<name>.events`: where the durable events of an API are kept, and whatever that wants to know."""

    model_config = ConfigDict(extra="allow")

    backend: str = Field(
        default="journal",
        description="What keeps durable events: journal (each publisher keeps its own), memory (this process, for "
        "tests), or the name of an entry point in the group lightbus_event_backends. Further keys are its options.",
    )

    @property
    def options(self) -> dict[str, Any]:
        """Return the backend's own settings, as they were written."""
        return dict(self.model_extra or {})


class ApiSettings(Settings):
    """`apis.<name>`; what is not written there is taken from `apis.default`."""

    rpc_timeout: Seconds = Field(default=5.0, description="Seconds in which a call must be answered.")
    event_fire_timeout: Seconds = Field(default=5.0, description="Seconds in which a fired event must be taken.")
    event_listener_setup_timeout: Seconds = Field(
        default=1.0, description="Seconds in which a listener must be set up."
    )
    validation: Annotated[
        ValidationSettings, BeforeValidator(_both_ways, json_schema_input_type=bool | ValidationSettings)
    ] = Field(default=ValidationSettings(), alias="validate", description="Check arguments and results.")
    strict_validation: bool = Field(default=False, description="Refuse what there is no schema for.")
    cast_values: bool = Field(default=True, description="Give handlers the types they are annotated with.")
    events: EventsSettings = Field(default=EventsSettings(), description="Where durable events are kept.")


class PluginSettings(BaseModel):
    """`plugins.<name>`: `enabled`, and whatever the plugin itself wants to know."""

    model_config = ConfigDict(frozen=True, extra="allow", hide_input_in_errors=True)

    enabled: bool = Field(default=False, description="Load this plugin.")

    @property
    def options(self) -> dict[str, Any]:
        """Return the plugin's own settings, as they were written."""
        return dict(self.model_extra or {})


class NetworkSettings(Settings):
    """`network`."""

    interfaces: Addresses = Field(
        default=[], description="Interfaces (names or addresses) to use; none: all but virtual ones."
    )
    advertise: Addresses = Field(default=[], description="Addresses that others shall dial, if not those of ours.")
    rpc_port: Port = Field(default=0, description="TCP port for calls; 0: any free one.")
    event_port: Port = Field(default=0, description="TCP port for events; 0: any free one.")
    max_message_size: MessageSize = Field(default=64 * 1024 * 1024, description="Bytes a message may have.")
    heartbeat_interval: Seconds = Field(default=1.0, description="Seconds between two heartbeats.")
    heartbeat_timeout: Seconds = Field(default=3.0, description="Seconds of silence after which a peer is gone.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.rpc_port and self.rpc_port == self.event_port:
            raise ValueError(f"rpc_port and event_port are both {self.rpc_port}; they must differ")
        if self.heartbeat_timeout <= self.heartbeat_interval:
            raise ValueError(
                f"heartbeat_timeout ({self.heartbeat_timeout} s) must be longer than "
                f"heartbeat_interval ({self.heartbeat_interval} s), or every peer looks lost"
            )
        return self


class DiscoverySettings(Settings):
    """`discovery`."""

    backend: str = Field(
        default="mdns",
        description="How peers find each other: mdns (multicast DNS), none, or the name of an entry point in the group "
        "lightbus_discovery.",
    )
    mdns: bool = Field(default=True, description="false: the same as the backend none.")
    peers: Peers = Field(
        default=[],
        description="Peers to connect to in any case: host:port, srv+lightbus://name (an SRV record) or ipc:///path.",
    )
    wait: Wait = Field(default=1.0, description="Seconds to wait for an API that nobody advertises.")

    @model_validator(mode="after")
    def _without_mdns(self) -> Self:
        if not self.mdns and self.backend == "mdns":
            object.__setattr__(self, "backend", "none")  # the one way to fill a field of a frozen model at birth
        return self


class SecuritySettings(Settings):
    """`security`."""

    mode: Literal["host", "bus_key", "insecure"] = Field(
        default="host",
        description="host: only this user of this host. bus_key: encrypted, for holders of the key; the default where "
        "there is one. insecure: plain TCP, open to everyone.",
    )
    bus_key: BusKeys = Field(
        default=(), description="The key of the bus, or several while one is replaced: the first is spoken."
    )
    bus_key_file: Directory | None = Field(
        default=None, description="The file of the key, if it is not where `lightbus keys init` puts it."
    )

    @property
    def keys(self) -> tuple[BusKey, ...]:
        """Return the keys, the one to speak first; none without mode bus_key."""
        return tuple(BusKey.parse(key.get_secret_value()) for key in self.bus_key) if self.mode == "bus_key" else ()

    @model_validator(mode="before")
    @classmethod
    def _key_chooses_the_mode(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("mode") is None and values.get("bus_key"):
            return {**values, "mode": "bus_key"}
        return values

    @field_validator("mode", mode="before")
    @classmethod
    def _known_mode(cls, value: Any) -> Any:
        if value == "keys":
            raise ValueError(f"is 'keys', which {_NOT_YET}")
        if isinstance(value, str) and value.lower().replace("-", "_") in _ENCRYPTED:  # near to 'insecure' by letters
            raise ValueError(
                f"must be 'host', 'bus_key' or 'insecure', not '{value}'. Did you mean 'bus_key'? It encrypts, with "
                "CURVE, for holders of the key that `lightbus keys init` makes"
            )
        return value

    @model_validator(mode="after")
    def _mode_and_key(self) -> Self:
        if self.mode == "bus_key" and not self.bus_key:
            raise ValueError(
                "has the mode bus_key, and there is no key. Make one with `lightbus keys init`, bring the key file of "
                "another host here, or set LIGHTBUS_BUS_KEY"
            )
        if self.mode == "insecure" and self.bus_key:  # going on would open what its owner believes to be locked
            raise ValueError(
                "has the mode insecure, and a bus key, which protects nothing in that mode. Remove one of the two: "
                "LIGHTBUS_SECURITY (security.mode) or LIGHTBUS_BUS_KEY (security.bus_key)"
            )
        return self


class WorkerSettings(Settings):
    """`worker`."""

    rpc_concurrency: Limit = Field(default=100, description="Calls executed at the same time.")
    rpc_queue: Count = Field(default=1000, description="Calls waiting beyond these; more are answered BUSY.")
    max_queue_time: Seconds | None = Field(
        default=None,
        description="Seconds a call may wait to be begun; it is answered BUSY where it would wait longer. Not set: "
        "half as long as calls take, where more come in than can be done.",
    )
    drain_grace: Wait = Field(default=2.0, description="Seconds a leaving worker waits for its callers to notice.")
    shutdown_timeout: Seconds = Field(default=10.0, description="Seconds a running call may take at shutdown.")
    member_timeout: Seconds = Field(
        default=10.0, description="Seconds without a sign of life after which a listener's events are given to others."
    )


class JournalSettings(Settings):
    """`journal`."""

    data_dir: Directory | None = Field(default=None, description="Where events are kept.")
    durability: Literal["process", "power"] = Field(
        default="process", description="What a stored event survives: a crash of any process, or a power cut too."
    )
    min_age: Seconds = Field(default=86_400.0, description="Seconds for which events are kept in any case.")
    max_events: Limit = Field(default=10_000_000, description="Events a journal may hold, handled or not.")
    max_bytes: Limit = Field(default=4 * 1024**3, description="Bytes of events a journal may hold, handled or not.")
    group_expiry: Seconds = Field(
        default=30 * 86_400.0, description="Seconds after which a group that was not seen is forgotten."
    )
