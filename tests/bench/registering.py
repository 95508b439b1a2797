"""The cost of registering an API with many procedures: `python tests/bench/registering.py [PROCEDURES]`."""

from __future__ import annotations

import sys
import time

from lightbus.service.api import Api
from lightbus.service.schema import Schema

PROCEDURE = "def procedure_{}(self, name: str, number: int = 3, tags: list[str] = ()) -> dict[str, int]: ...\n"


def main(count: int) -> None:
    members: dict[str, object] = {"Meta": type("Meta", (), {"name": "many"})}
    for number in range(count):
        exec(PROCEDURE.format(number), {}, members)
    many = type("Many", (Api,), members)
    schema = Schema()
    begun = time.perf_counter()
    schema.add_api(many())
    digest = schema.digest("many")
    print(f"{count} procedures: {time.perf_counter() - begun:.2f} s, digest {digest}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000)
