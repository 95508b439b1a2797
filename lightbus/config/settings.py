"""The sections of the configuration: every setting with its type, unit, default and bounds.

They know nothing of files, of the environment or of error texts. If a key cannot be the name of an attribute, the
attribute has another name (`validation` for `validate`, `options` for `schema`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from .fields import (
    ADDRESSES,
    BUS_KEYS,
    BUS_NAME,
    COUNT,
    DIRECTORY,
    LIMIT,
    MESSAGE_SIZE,
    PEERS,
    PORT,
    SECONDS,
    SWITCH,
    TEXT,
    WAIT,
    Secret,
    choice,
)
from .keys import BusKey
from .sections import Settings, before, optional, section, setting

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
"""Words that users write for the mode that encrypts."""


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _for_both_directions(value: Any) -> Any:
    """Apply `validate: false` to both directions."""
    return {"outgoing": value, "incoming": value} if isinstance(value, bool) else value


def _known_mode(value: Any) -> Any:
    if value == "keys":
        raise ValueError(f"is 'keys', which {_NOT_YET}")
    if isinstance(value, str) and value.lower().replace("-", "_") in _ENCRYPTED:  # near to 'insecure'
        raise ValueError(
            f"must be 'host', 'bus_key' or 'insecure', not '{value}'. Did you mean 'bus_key'? It encrypts, with "
            "CURVE, for holders of the key that `lightbus keys init` makes"
        )
    return value


_BOTH_WAYS = {"anyOf": [SWITCH.json, {"$ref": "#/$defs/ValidationSettings"}]}


class SchemaSettings(Settings):
    """`bus.schema`."""

    human_readable: bool = setting(SWITCH, True, "Indent the JSON that dumpschema writes.")
    ttl: float = setting(SECONDS, 3600.0, "Seconds for which a peer's schema is remembered.")


class BusSettings(Settings):
    """`bus`."""

    name: str | None = setting(
        optional(BUS_NAME),
        None,
        "Buses of different names do not see each other. Without one, each user of a host has an own bus.",
    )
    log_level: Literal["debug", "info", "warning", "error", "critical"] = setting(
        before(_lower, choice("debug", "info", "warning", "error", "critical")), "info", "What `lightbus run` logs."
    )
    options: SchemaSettings = setting(section(SchemaSettings), SchemaSettings.from_defaults(), key="schema")

    def __call__(self) -> Self:
        """Return the section itself, since 1.x has `config.bus()`."""
        return self


class ValidationSettings(Settings):
    """`apis.<name>.validate`."""

    outgoing: bool = setting(SWITCH, True, "Check what this process sends.")
    incoming: bool = setting(SWITCH, True, "Check what this process receives.")


class EventsSettings(Settings):
    """`apis.<name>.events`: the backend that stores the durable events of an API, and the backend's own settings."""

    takes_more = True

    backend: str = setting(
        TEXT,
        "journal",
        "What stores durable events: journal (each publisher stores its own), memory (this process, for tests), "
        "jetstream (NATS servers), or the name of an entry point in the group lightbus_event_backends. Further keys "
        "are its options.",
    )

    @property
    def options(self) -> dict[str, Any]:
        """The backend's own settings, not validated."""
        return dict(self.model_extra or {})


class ApiSettings(Settings):
    """`apis.<name>`; settings that are not given are taken from `apis.default`."""

    rpc_timeout: float = setting(SECONDS, 5.0, "Seconds in which a call must be answered.")
    event_fire_timeout: float = setting(SECONDS, 5.0, "Seconds in which a fired event must be accepted.")
    event_listener_setup_timeout: float = setting(SECONDS, 1.0, "Seconds in which a listener must be set up.")
    validation: ValidationSettings = setting(
        before(_for_both_directions, section(ValidationSettings), json=_BOTH_WAYS),
        ValidationSettings.from_defaults(),
        "Check arguments and results.",
        key="validate",
    )
    strict_validation: bool = setting(SWITCH, False, "Refuse what there is no schema for.")
    cast_values: bool = setting(SWITCH, True, "Give handlers the types they are annotated with.")
    events: EventsSettings = setting(
        section(EventsSettings), EventsSettings.from_defaults(), "Where durable events are stored."
    )


class PluginSettings(Settings):
    """`plugins.<name>`: `enabled`, and the plugin's own settings."""

    takes_more = True

    enabled: bool = setting(SWITCH, False, "Load this plugin.")

    @property
    def options(self) -> dict[str, Any]:
        """The plugin's own settings, not validated."""
        return dict(self.model_extra or {})

    def __getattr__(self, name: str) -> Any:
        """Return one of the plugin's own settings."""
        if name.startswith("__") or name not in self.options:
            raise AttributeError(f"There is no value for plugins.<name>.{name}: a plugin's default is not known here.")
        return self.options[name]


class NetworkSettings(Settings):
    """`network`."""

    interfaces: list[str] = setting(
        ADDRESSES, [], "Interfaces (names or addresses) to use; none: all but virtual ones."
    )
    advertise: list[str] = setting(ADDRESSES, [], "Addresses that others shall dial, if not those of this host.")
    rpc_port: int = setting(PORT, 0, "TCP port for calls; 0: any free one.")
    event_port: int = setting(PORT, 0, "TCP port for events; 0: any free one.")
    max_message_size: int = setting(MESSAGE_SIZE, 64 * 1024 * 1024, "Bytes a message may have.")
    heartbeat_interval: float = setting(SECONDS, 1.0, "Seconds between two heartbeats.")
    heartbeat_timeout: float = setting(SECONDS, 3.0, "Seconds of silence after which a peer is gone.")

    def _checked(self) -> Self:
        """Refuse settings that cannot work together."""
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

    backend: str = setting(
        TEXT,
        "mdns",
        "How peers find each other: mdns (multicast DNS), none, or the name of an entry point in the group "
        "lightbus_discovery.",
    )
    mdns: bool = setting(SWITCH, True, "false: the same as the backend none.")
    peers: list[str] = setting(
        PEERS,
        [],
        "Peers to connect to in any case: host:port, srv+lightbus://name (an SRV record) or ipc:///path.",
    )
    wait: float = setting(WAIT, 1.0, "Seconds to wait for an API that no peer advertises.")

    def _checked(self) -> Self:
        """Translate the earlier setting `mdns: false` into the backend `none`."""
        if not self.mdns and self.backend == "mdns":
            object.__setattr__(self, "backend", "none")  # sections are frozen
        return self


class SecuritySettings(Settings):
    """`security`."""

    mode: Literal["host", "bus_key", "insecure"] = setting(
        before(_known_mode, choice("host", "bus_key", "insecure")),
        "host",
        "host: only this user of this host. bus_key: encrypted, for holders of the key; the default where "
        "there is one. insecure: plain TCP, open to everyone.",
    )
    bus_key: tuple[Secret, ...] = setting(
        BUS_KEYS, (), "The key of the bus, or several while one is replaced: the first is used, all are accepted."
    )
    bus_key_file: Path | None = setting(
        optional(DIRECTORY), None, "The file of the key, if it is not where `lightbus keys init` puts it."
    )

    @property
    def keys(self) -> tuple[BusKey, ...]:
        """Return the keys, the one to connect with first; none unless the mode is bus_key."""
        return tuple(BusKey.parse(key.get_secret_value()) for key in self.bus_key) if self.mode == "bus_key" else ()

    @classmethod
    def _prepared(cls, values: Any) -> Any:
        """Select the mode bus_key if there is a key and no mode."""
        if isinstance(values, dict) and values.get("mode") is None and values.get("bus_key"):
            return {**values, "mode": "bus_key"}
        return values

    def _checked(self) -> Self:
        """Refuse a mode that contradicts the key."""
        if self.mode == "bus_key" and not self.bus_key:
            raise ValueError(
                "has the mode bus_key, and there is no key. Make one with `lightbus keys init`, bring the key file of "
                "another host here, or set LIGHTBUS_BUS_KEY"
            )
        if self.mode == "insecure" and self.bus_key:  # else a bus would be open that its owner believes encrypted
            raise ValueError(
                "has the mode insecure, and a bus key, which protects nothing in that mode. Remove one of the two: "
                "LIGHTBUS_SECURITY (security.mode) or LIGHTBUS_BUS_KEY (security.bus_key)"
            )
        return self


class WorkerSettings(Settings):
    """`worker`."""

    rpc_concurrency: int = setting(LIMIT, 100, "Calls executed at the same time.")
    rpc_queue: int = setting(COUNT, 1000, "Calls queued beyond these; more are refused.")
    max_queue_time: float | None = setting(
        optional(SECONDS),
        None,
        "Seconds a call may be queued; it is refused if it would wait longer. Not set: half of the time that "
        "calls take, while the worker is overloaded.",
    )
    drain_grace: float = setting(WAIT, 2.0, "Seconds a stopping worker waits for its callers to notice.")
    shutdown_timeout: float = setting(SECONDS, 10.0, "Seconds a running call may take at shutdown.")
    member_timeout: float = setting(
        SECONDS, 10.0, "Seconds without a sign of life after which a listener's events go to other members."
    )


class JournalSettings(Settings):
    """`journal`."""

    data_dir: Path | None = setting(optional(DIRECTORY), None, "Where events are stored.")
    durability: Literal["process", "power"] = setting(
        choice("process", "power"),
        "process",
        "What a stored event survives: a crash of any process, or a power cut too.",
    )
    min_age: float = setting(SECONDS, 86_400.0, "The fewest seconds for which events are kept.")
    max_events: int = setting(LIMIT, 10_000_000, "Events a journal may hold, handled or not.")
    max_bytes: int = setting(LIMIT, 4 * 1024**3, "Bytes of events a journal may hold, handled or not.")
    group_expiry: float = setting(SECONDS, 30 * 86_400.0, "Seconds after which a group without members is forgotten.")
