"""The clients of the gateway: each has a token, and optionally its own rules, which can only restrict access."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..exceptions import InvalidConfiguration
from ..web.tokens import check_token, is_same, read_secret_file
from .access import Permission, Rules

__all__ = ["Client", "Clients", "read_clients"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """
    One client.

    Attributes:
        name: its name in the log, by which its requests are counted.
        token: the bearer token it sends.
        rules: what it may do of what the gateway allows; None for all of that.

    """

    name: str
    token: str = field(repr=False)
    rules: Rules | None = None

    def may(self, permission: Permission, api: str, member: str) -> bool:
        """Return whether the client's own rules allow an action on a member."""
        return self.rules is None or self.rules.allow(permission, api, member)


class Clients:
    """All clients of the gateway."""

    def __init__(self, clients: Sequence[Client]) -> None:
        self._clients = tuple(clients)

    def __len__(self) -> int:
        return len(self._clients)

    @property
    def only(self) -> Client:
        """The only client. Raises ValueError if there are several."""
        [client] = self._clients
        return client

    def with_token(self, token: str) -> Client | None:
        """Return the client with this token. It compares with all of them, so that the time reveals nothing."""
        found = None
        for client in self._clients:
            if is_same(token, client.token):
                found = client
        return found


def read_clients(path: Path) -> Clients:
    """
    Return the clients of a file: one a line, with a name, a token and, if its access is restricted, its rules.

    Raises InvalidConfiguration where the file cannot be read, others may read it, or a line is no client.
    """
    clients: list[Client] = []
    for number, line in enumerate(read_secret_file(path).splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        name, token, *patterns = words if len(words) > 1 else (*words, "")
        where = f"Line {number} of {path}"
        check_token(token, f"{where} has no token behind the name {name!r:.50}")
        if any(name == each.name or is_same(token, each.token) for each in clients):
            raise InvalidConfiguration(f"{where} has the name or the token of another line: each client has its own.")
        try:
            rules = Rules.read(patterns) if patterns else None
        except InvalidConfiguration as error:
            raise InvalidConfiguration(f"{where}: {error}") from None
        clients.append(Client(name=name, token=token, rules=rules))
    if not clients:
        raise InvalidConfiguration(
            f"{path} has no client: write a line for each, with a name and a token of its own. Make one: "
            f"python3 -c \"import secrets; print('shop', secrets.token_urlsafe(24))\" >> {path}"
        )
    return Clients(clients)
