"""The command line of the fuzzer."""

from __future__ import annotations

import argparse
import hashlib
import os

from .run import CORPUS, fuzz, replay

__all__ = ["main"]


def main() -> None:
    """Fuzz as the command line says; inputs that find a fault are kept in the corpus, and the exit code is then 1."""
    parser = argparse.ArgumentParser(prog="fuzz", description="Give damaged messages to all that reads messages.")
    parser.add_argument("--inputs", type=int, default=10_000_000, help="how many (default: %(default)s)")
    parser.add_argument("--seed", type=int, help="repeat the run of this seed")
    options = parser.parse_args()
    seed = int.from_bytes(os.urandom(4), "big") if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    found = replay()
    if not found.faults:
        found = fuzz(seed, options.inputs)
    for data, what in found.faults:
        path = CORPUS / hashlib.blake2b(data, digest_size=6).hexdigest()
        path.write_bytes(data)
        print(f"{path.name}: {what}: {data!r:.200}")
    rate = found.inputs / max(found.seconds, 0.001)
    print(f"inputs {found.inputs}, faults {len(found.faults)}, seconds {found.seconds:.0f}, {rate:.0f}/s, seed {seed}")
    raise SystemExit(bool(found.faults))
