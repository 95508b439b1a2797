"""`lightbus shell`: Python at a prompt, with the bus as `bus`."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

import click

from ..support.options import apply_options, bus_options

if TYPE_CHECKING:
    from ...path import BusPath

__all__ = ["shell"]


@click.command()
@click.option("--wait", type=click.FloatRange(0.0, 60.0), default=1.0, show_default=True, metavar="SECONDS",
              help="How long to look for peers, whose names are completed.")  # fmt: skip
@bus_options
def shell(
    wait: float,
    module: str | None,
    service_name: str | None,
    process_name: str | None,
    config_file: str | None,
    log_level: str | None,
) -> None:
    """Open a Python prompt with the bus as `bus`: IPython where it is installed.

    It uses the bus of the module that is named, or of a bus.py here, else a client of the bus. The tab key completes
    names on the bus.
    """
    from ...creation import configure_logging

    apply_options(service_name=service_name, process_name=process_name, config_file=config_file, log_level=log_level)
    configure_logging(log_level or "warning")
    bus = _bus(module, config_file)
    _discover_all(bus, wait)
    names = ", ".join(bus.client.engine.snapshot.api_names()) or "nothing yet"
    _prompt({"bus": bus}, f"The bus is `bus`; on it: {names}. bus.auth.check_password(username=...) calls.")
    bus.client.close()


def _bus(module: str | None, config_file: str | None) -> BusPath:
    from ...creation import create
    from ..support.bus_module import is_module_there, load_bus

    if is_module_there(module):
        return load_bus(module)[0]
    return create(config_file=config_file, service_name="lightbus-shell")


def _discover_all(bus: BusPath, seconds: float) -> None:
    import asyncio

    from ...deadline import Deadline

    asyncio.run(bus.client.engine.questions.discover_all(Deadline.after(seconds)))


def _prompt(namespace: dict[str, Any], banner: str) -> None:
    if _has_ipython():
        from IPython import start_ipython  # type: ignore[import-not-found,unused-ignore]

        click.echo(banner)
        start_ipython(argv=["--no-banner", "--no-confirm-exit"], user_ns=namespace)
        return
    import code
    import rlcompleter

    try:
        import readline
    except ImportError:  # this Python was built without readline
        pass
    else:
        readline.set_completer(rlcompleter.Completer(namespace).complete)
        readline.parse_and_bind("tab: complete")
    code.interact(banner=banner, local=namespace, exitmsg="")


def _has_ipython() -> bool:
    try:
        return importlib.util.find_spec("IPython") is not None
    except ValueError:  # disabled by None in sys.modules
        return False
