"""APIs that are served in several versions at a time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from helpers.calling import A, B, peer
from lightbus.core.peers import Peer
from lightbus.core.versions import fitting, is_mixed, of_the_same_version
from lightbus.exceptions import UnknownApi
from lightbus.wire.announcement import ApiInfo

C = "c" * 16


def serving(instance: str, *procedures: str, version: int = 1, digest: str = "one") -> Peer:
    """Return a peer that serves auth with these procedures."""
    info = ApiInfo(name="auth", procedures=procedures, version=version, digest=digest)
    it = peer(instance)
    return replace(it, announcement=replace(it.announcement, apis=(info,), api_names=None))


OLD, NEW, SAME = serving(A, "check"), serving(B, "check", "reset", version=2, digest="two"), serving(C, "check")


def test_mixed_versions_are_recognised() -> None:
    """Peers with another version, or another schema of the same version, serve different ones."""
    assert not is_mixed("auth", [OLD, SAME])
    assert is_mixed("auth", [OLD, NEW])
    assert is_mixed("auth", [OLD, serving(B, "check", digest="two")])
    assert of_the_same_version([OLD, NEW, SAME], "auth", OLD) == {A, C}


def test_peers_with_a_procedure_are_chosen() -> None:
    """If only some have it, those; if none has it, or the APIs of a peer are unknown, all."""
    assert fitting([OLD, NEW, SAME], "auth", "reset", None) == (NEW,)
    assert fitting([OLD, NEW], "auth", "check", None) == (OLD, NEW)
    assert fitting([OLD, NEW], "auth", "rest", None) == (OLD, NEW)
    assert fitting([OLD, peer(B)], "auth", "reset", None) == (peer(B),)


def test_requested_version_is_chosen() -> None:
    """Or the error lists the existing versions."""
    assert fitting([OLD, NEW, SAME], "auth", "check", 2) == (NEW,)
    with pytest.raises(UnknownApi, match=r"No peer serves version 3 of the API 'auth'\. Served: 1, 2\."):
        fitting([OLD, NEW], "auth", "check", 3)
