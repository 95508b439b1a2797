"""
`python tests/browser`: draw the pictures of the dashboard's pages, for the documents and for comparison by tests.

They are drawn from what a bus told once, tests/browser/kept/answers.json; `--anew` asks one, the shop in
tests/browser/programs, after it was busy for five minutes.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from browser.chromium import lacks, lacks_font
from browser.pictures import draw_all
from browser.recording import recorded
from browser.replay import ANSWERS


def main() -> int:
    """Draw them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--anew", action="store_true", help="ask a bus anew")
    parser.add_argument("--seconds", type=float, default=310.0, help="how long it was busy before")
    given = parser.parse_args()
    if problem := lacks() or lacks_font():
        parser.error(problem)
    if given.anew:
        ANSWERS.parent.mkdir(exist_ok=True)
        ANSWERS.write_text(json.dumps(recorded(given.seconds), separators=(",", ":"), sort_keys=True) + "\n")
    files = [*draw_all(json.loads(ANSWERS.read_text()))]
    print(f"{len(files)} pictures, {sum(each.stat().st_size for each in files) / 1e6:.2f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
