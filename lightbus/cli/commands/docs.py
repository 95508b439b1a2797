"""`lightbus docs`: what is on the bus, as a site of static pages."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click

from ...exceptions import UnsupportedUse
from ..schemas.gathering import DescribedApi
from ..specifications.pages import MARK, site_files
from ..specifications.source import SpecificationSource, specification_options
from ..support.output import Output

__all__ = ["docs"]


@click.command()
@click.option("--out", metavar="DIRECTORY", type=click.Path(path_type=Path), default=Path("site"), show_default=True,
              help="Where the pages go.")  # fmt: skip
@click.option("--title", metavar="TEXT", default="What is on the bus", show_default=True, help="The site's title.")
@specification_options
def docs(source: SpecificationSource, out: Path, title: str) -> None:
    """Write pages about the APIs on the bus: procedures, events and types, with their docstrings.

    Any web server, or a browser alone, can show them; they load nothing from other sites. The AsyncAPI and OpenAPI
    documents are beside them. Another run removes the pages of APIs that are gone.
    """

    def finish(apis: Mapping[str, DescribedApi], output: Output) -> None:
        pages = site_files(apis, title=title)
        try:
            _write(out, pages)
        except OSError as error:
            raise UnsupportedUse(
                f"The pages cannot be written to {out}: {error.strerror}. Name another --out."
            ) from None
        if output.as_json:
            output.record({"index": str(out / "index.html"), "apis": sorted(apis)})
        else:
            count = "1 API is" if len(apis) == 1 else f"{len(apis)} APIs are"
            output.line(f"{count} described in ", (str(out / "index.html"), "bold"))

    source.give(finish)


def _write(out: Path, pages: Mapping[str, str]) -> None:
    (out / "apis").mkdir(parents=True, exist_ok=True)
    for page in (out / "apis").glob("*.html"):
        if f"apis/{page.name}" not in pages and MARK in page.read_text("utf-8", "replace"):
            page.unlink()
    for name, text in pages.items():
        (out / name).write_text(text, "utf-8")
