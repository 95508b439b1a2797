"""
Draws the Mermaid pictures of the documents while the site is built, so that it loads nothing from elsewhere.

MkDocs calls these functions (`hooks` in mkdocs.yml). A picture that cannot be drawn fails the build, and so does a page
that would load something from another place when it is read.
"""

from __future__ import annotations

import hashlib
import logging
import re
from typing import Any

import mermaidx
from pymdownx.superfences import SuperFencesException

logger = logging.getLogger("mkdocs.hooks.pictures")

LOADED = re.compile(
    r'<(?:script|img|iframe|source|link(?![^>]*rel="?(?:canonical|edit|next|prev)))\b'
    r'[^>]*(?:src|href)="?((?:https?:)?//[^" >]+)'
)
"""What a browser loads by itself from another place, wherever the page was read from."""


def on_config(config: Any) -> Any:
    """Have fences of Mermaid drawn."""
    fence = {"name": "mermaid", "class": "picture", "format": draw}
    config.mdx_configs.setdefault("pymdownx.superfences", {})["custom_fences"] = [fence]
    return config


def draw(source: str, language: str, css_class: str, options: Any, md: Any, **others: Any) -> str:
    """Return a picture as SVG, on white: its colours are those of a light page."""
    try:
        svg = mermaidx.render(source).svg()
    except Exception as error:
        raise SuperFencesException(f"This picture cannot be drawn: {error}\n{source}") from error
    name = f"picture-{hashlib.sha256(source.encode()).hexdigest()[:8]}"
    style = "background: white; padding: 0.5em; overflow-x: auto"
    return f'<div class="{css_class}" style="{style}">{svg.replace("my-svg", name)}</div>'


def on_post_page(output: str, page: Any, config: Any) -> str:
    """Warn, which ends a strict build, of what a page loads from elsewhere."""
    for address in LOADED.findall(output):
        logger.warning("%s loads %s, and is to be read without a network", page.file.src_uri, address)
    return output
