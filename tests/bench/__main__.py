"""`python tests/bench`: measure the bus against raw ZeroMQ. The package `bench` is found beside this directory."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.command import main

if __name__ == "__main__":
    sys.exit(main())
