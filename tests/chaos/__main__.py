"""`python tests/chaos`: kill, stop and restart processes while events are fired, and check that none is lost."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from chaos.command import main

    sys.exit(main())
