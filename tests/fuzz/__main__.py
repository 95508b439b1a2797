"""`python tests/fuzz --inputs 10000000 --seed 1`: damaged messages for decoders and handlers."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from fuzz.command import main

main()
