"""The settings of the backend `jetstream`: what stands in `apis.<name>.events`, and in the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from ...exceptions import InvalidConfiguration, did_you_mean

__all__ = ["CREDENTIALS_VARIABLE", "SERVERS_VARIABLE", "NatsSettings"]

SERVERS_VARIABLE = "LIGHTBUS_NATS_SERVERS"
CREDENTIALS_VARIABLE = "LIGHTBUS_NATS_CREDENTIALS"


@dataclass(frozen=True, slots=True, kw_only=True)
class NatsSettings:
    """
    How the servers are reached, and what a stream is made with.

    Attributes:
        servers: their URLs; `LIGHTBUS_NATS_SERVERS`, with commas, goes first.
        user, password: of an account of the servers.
        credentials: a file of credentials; `LIGHTBUS_NATS_CREDENTIALS` goes first.
        replicas: on how many servers events are kept.
        max_age: seconds after which events are deleted, handled or not; 0: never.
        max_bytes: bytes that an API's events may have, -1: any; beyond it the oldest are deleted.
        timeout: seconds in which a server is to answer.
        member_timeout: seconds without a sign of life after which a listener's events are given to others.

    """

    servers: tuple[str, ...] = ("nats://127.0.0.1:4222",)
    user: str | None = None
    password: str | None = None
    credentials: str | None = None
    replicas: int = 1
    max_age: float = 0.0
    max_bytes: int = -1
    timeout: float = 2.0
    member_timeout: float = 10.0

    @classmethod
    def read(cls, options: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> NatsSettings:
        """Return the settings. Raises InvalidConfiguration."""
        known = {field.name: field.default for field in fields(cls)}
        given = dict(options)
        if servers := environ.get(SERVERS_VARIABLE):
            given["servers"] = servers
        if credentials := environ.get(CREDENTIALS_VARIABLE):
            given["credentials"] = credentials
        if isinstance(given.get("servers"), str):
            given["servers"] = [server.strip() for server in given["servers"].split(",") if server.strip()]
        for name, value in given.items():
            if name not in known:
                near = did_you_mean(name, known) or f" There is: {', '.join(known)}."
                raise InvalidConfiguration(f"apis.<name>.events.{name} is no setting of the backend jetstream.{near}")
            if not _fits(value, known[name]):
                raise InvalidConfiguration(
                    f"apis.<name>.events.{name} cannot be {value!r:.100}. The default is {known[name]!r}."
                )
        if "servers" in given:
            given["servers"] = tuple(given["servers"])
        return cls(**given)


def _fits(value: Any, default: Any) -> bool:
    if isinstance(value, bool):
        return False
    if isinstance(default, tuple):
        return isinstance(value, list | tuple) and bool(value) and all(isinstance(each, str) for each in value)
    if isinstance(default, int | float):
        return isinstance(value, int) or (isinstance(default, float) and isinstance(value, float))
    return isinstance(value, str)
