"""`lightbus run`: serve the APIs and listeners of a bus module until told to stop."""

from __future__ import annotations

import traceback

import click

from ..config.features import ALL_FEATURES, Feature
from .options import ENVIRONMENT, bus_options, take_over

__all__ = ["run"]


def _features(text: str | None, option: str) -> list[Feature]:
    names = [name.strip().lower() for name in (text or "").split(",") if name.strip()]
    known = {feature.value: feature for feature in ALL_FEATURES}
    for name in names:
        if name not in known:
            raise click.BadParameter(f"'{name}' is none of {', '.join(known)}.", param_hint=option)
    return [known[name] for name in names]


@click.command(epilog=ENVIRONMENT)
@bus_options
@click.option("--only", metavar="FEATURES", help="Do only these: rpcs,events,tasks.")
@click.option("--skip", metavar="FEATURES", help="Do all but these.")
@click.option("--schema", metavar="PATH", help="Load schemas of other services' APIs from a file or directory.")
def run(
    module: str | None,
    service_name: str | None,
    process_name: str | None,
    config_file: str | None,
    log_level: str | None,
    only: str | None,
    skip: str | None,
    schema: str | None,
) -> None:
    """Serve the APIs and listeners of a bus module until told to stop.

    SIGINT or SIGTERM: running calls are finished, then it ends with exit code 0. A second one ends it at once.
    """
    if only and skip:
        raise click.UsageError("--only and --skip say the same thing in two ways: give one of them.")
    wanted, unwanted = _features(only, "--only"), _features(skip, "--skip")
    from ..creation import configure_logging, get_bus, import_bus_module
    from ..exceptions import FailedToImportBusModule

    take_over(service_name=service_name, process_name=process_name, config_file=config_file, log_level=log_level)
    try:
        bus = get_bus(import_bus_module(module))
    except FailedToImportBusModule as error:
        if error.__cause__ is not None:
            traceback.print_exception(error.__cause__)
        raise
    client = bus.client
    configure_logging(client.config.bus.log_level)
    if wanted or unwanted:
        client.set_features(wanted or [feature for feature in ALL_FEATURES if feature not in unwanted])
    if schema:
        client.schema.load_local(schema)
    raise SystemExit(client.run_forever())
