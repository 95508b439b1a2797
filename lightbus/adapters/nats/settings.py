"""The settings of the backend `jetstream`, from `apis.<name>.events` and the environment."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from ...exceptions import InvalidConfiguration, did_you_mean
from ...phrases import hint_of_listener

__all__ = ["VARIABLES", "NatsSettings"]

VARIABLES = {
    "servers": "LIGHTBUS_NATS_SERVERS",
    "user": "LIGHTBUS_NATS_USER",
    "password": "LIGHTBUS_NATS_PASSWORD",
    "credentials": "LIGHTBUS_NATS_CREDENTIALS",
    "tls_ca": "LIGHTBUS_NATS_TLS_CA",
}
"""Environment variables that override settings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NatsSettings:
    """
    How to reach the servers, and with which options a stream is created.

    Attributes:
        servers: their URLs, separated by commas in the settings.
        user, password: an account of the servers.
        credentials: a credentials file.
        tls_ca: a file with the certificates that the servers' certificates are checked by; it turns encryption on.
        tls_certificate, tls_key: files of our own certificate and its key, if the servers require one.
        replicas: the number of servers that store each event.
        max_age: seconds after which events are deleted, handled or not; 0: never.
        max_bytes, max_events: the size limits of an API's events, -1: none; beyond them the oldest are deleted.
        timeout: seconds within which a server must answer.
        member_timeout: seconds without a sign of life after which a listener's events are given to other listeners.

    """

    servers: tuple[str, ...] = ("nats://127.0.0.1:4222",)
    user: str | None = None
    password: str | None = None
    credentials: str | None = None
    tls_ca: str | None = None
    tls_certificate: str | None = None
    tls_key: str | None = None
    replicas: int = 1
    max_age: float = 0.0
    max_bytes: int = -1
    max_events: int = -1
    timeout: float = 2.0
    member_timeout: float = 10.0

    @classmethod
    def read(cls, options: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> NatsSettings:
        """Return the settings in `options` and the environment. Raises InvalidConfiguration."""
        known = {field.name: field.default for field in fields(cls)}
        given = dict(options)
        given |= {name: value for name, variable in VARIABLES.items() if (value := environ.get(variable))}
        if isinstance(given.get("servers"), str):
            given["servers"] = [server.strip() for server in given["servers"].split(",") if server.strip()]
        for name, value in given.items():
            if name not in known:
                near = did_you_mean(name, known) + hint_of_listener(name) or f" There is: {', '.join(known)}."
                raise InvalidConfiguration(
                    f"apis.<name>.events.{name} is not a setting of the backend jetstream.{near}"
                )
            if not _fits(value, known[name]):
                raise InvalidConfiguration(
                    f"apis.<name>.events.{name} cannot be {value!r:.100}. The default is {known[name]!r}."
                )
        if "servers" in given:
            given["servers"] = tuple(given["servers"])
        return cls(**given)

    @property
    def places(self) -> str:
        """The servers as text for logs and errors: without passwords in URLs."""
        return ", ".join(re.sub(r"//[^/@]*@", "//", server) for server in self.servers)

    @property
    def tls(self) -> ssl.SSLContext | None:
        """The TLS context; None: the servers' URLs decide about encryption. Raises InvalidConfiguration."""
        if self.tls_ca is None and self.tls_certificate is None:
            return None
        try:
            context = ssl.create_default_context(cafile=self.tls_ca)
            if self.tls_certificate is not None:
                context.load_cert_chain(self.tls_certificate, self.tls_key)
        except (OSError, ssl.SSLError) as error:
            files = ", ".join(each for each in (self.tls_ca, self.tls_certificate, self.tls_key) if each)
            raise InvalidConfiguration(
                f"apis.<name>.events names {files} for tls, which cannot be used: {error}"
            ) from error
        return context


def _fits(value: Any, default: Any) -> bool:
    if isinstance(value, bool):
        return False
    if isinstance(default, tuple):
        return isinstance(value, list | tuple) and bool(value) and all(isinstance(each, str) for each in value)
    if isinstance(default, int | float):
        return isinstance(value, int) or (isinstance(default, float) and isinstance(value, float))
    return isinstance(value, str)
