"""The files of a new service."""

from __future__ import annotations

import ast

import pytest

from lightbus.cli.support.new_service import service_files


@pytest.mark.parametrize(
    ("name", "api", "title"), [("greeter", "greeter", "Greeter"), ("image-store2", "image_store2", "ImageStore2")]
)
def test_service_and_api_names_are_derived(name: str, api: str, title: str) -> None:
    """The service is called as it is wanted, its API so that it can be written in Python."""
    files = service_files(name)
    assert f'service_name="{name}"' in files["bus.py"]
    assert f"class {title}Api(lightbus.Api)" in files["bus.py"]
    assert f"bus.{api}.greeted.fire(" in files["bus.py"]
    assert f'name = "{name}"' in files["pyproject.toml"]
    for file, text in files.items():
        if file.endswith(".py"):
            ast.parse(text)
        else:
            assert "{name}" not in text
