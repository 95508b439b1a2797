"""A program that mypy and pyright check against what is on the bus: `mypy --strict client.py`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import lightbus
from typed_bus import User, typed

bus = typed(lightbus.create())


@dataclass
class Person:
    """The program's own class: it has what the service's has."""

    username: str
    born: date


def shown(user: User) -> str:
    return f"{user['username']}, born in {user['born'].year}, {user.get('role', 'member')}"


if __name__ == "__main__":
    count = bus.auth.register(user=Person("sally", date(1990, 5, 17)))
    count += bus.auth.register(user={"username": "harry", "born": date(1988, 2, 1), "role": "admin"})
    for name in ("sally", "harry", "bertie"):
        found = bus.auth.find(username=name)
        print(shown(found) if found is not None else f"there is no {name}")
