"""What a client has of Lightbus 1.x; the forms that programs use are in tests/compat/forms.py."""

from __future__ import annotations

import pytest

from lightbus import create
from lightbus.client.old_client_names import GONE


@pytest.mark.parametrize("name", GONE)
def test_what_is_gone_is_named(name: str) -> None:
    """With what there is instead; `hasattr` says that it is not there."""
    client = create(service_name="old").client
    with pytest.raises(AttributeError, match=f"no '{name}' any more. .+"):
        getattr(client, name)
    assert not hasattr(client, name)
