"""`manage.py runlightbus`: `lightbus run` within the project, with its settings, models and database connections."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from django.core.management.base import BaseCommand

from .....cli import main
from .....cli.support.run_as import RunAs
from ...project import connect, module_name

__all__ = ["Command"]

OF_DJANGO = ("--settings", "--pythonpath")
"""Options that manage.py has handled already; processes started by this one get them again."""


class Command(BaseCommand):  # type: ignore[misc]
    """The command, with the options of `lightbus run`."""

    help = "Serve the APIs and listeners of the bus module that the setting LIGHTBUS_MODULE names, until told to stop."

    def run_from_argv(self, argv: list[str]) -> None:
        """Split off the options of Django, and pass the rest to `lightbus run`."""
        of_django, options = _split_options(argv[2:])
        self._run([*argv[:2], *of_django], options)

    def handle(self, *args: Any, **options: Any) -> None:
        """Run it without options, by `call_command("runlightbus")`."""
        self._run([sys.argv[0], "runlightbus"], args)

    def _run(self, program: Sequence[str], options: Sequence[str]) -> None:
        module = module_name()
        if module is not None and not any(each.split("=")[0] in ("--bus", "-b") for each in options):
            options = [*options, "--bus", module]
        run_as = RunAs(command=(sys.executable, *program), prepare=connect)
        main(args=["run", *options], prog_name="lightbus", obj=run_as)


def _split_options(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split the options of Django from the others."""
    of_django: list[str] = []
    rest: list[str] = []
    others = iter(words)
    for word in others:
        name, equals, _ = word.partition("=")
        if name in OF_DJANGO:
            of_django += [word] if equals else [word, next(others, "")]
        else:
            rest.append(word)
    return of_django, rest
