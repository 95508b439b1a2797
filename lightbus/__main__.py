"""`python -m lightbus` is the `lightbus` command."""

from __future__ import annotations

from .cli import main

main(prog_name="lightbus")
