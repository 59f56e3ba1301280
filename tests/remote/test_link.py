"""A link that fails before its first client has come to it tells that client all the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from manifests.errors import HemmaError, UsageError
from remote.host import target_of
from remote.link import Link
from tests.support import wait_until


class Waiting:
    """A client that waits for a word."""

    def __init__(self) -> None:
        self.told: list[HemmaError | None] = []

    def take(self, pieces: list[bytes | memoryview]) -> None:
        """No frame comes from a link that never was up."""
        raise AssertionError(pieces)

    def lost(self, error: HemmaError | None) -> None:
        """The link is gone."""
        self.told.append(error)

    def hang_up(self) -> None:
        """Nothing was torn."""
        raise AssertionError


@pytest.mark.req("S9-R21")
@pytest.mark.timeout(20)
def test_a_client_that_comes_after_the_failure_is_told(tmp_path: Path) -> None:
    link = Link(target_of({"ssh": "gpu", "ssh_config": str(tmp_path / "nowhere")}), lambda _: None)
    wait_until(lambda: link.is_gone, what="the link fails by itself")
    late = Waiting()
    link.open(late, {"verb": "run"})
    wait_until(lambda: bool(late.told), what="it is told")
    assert isinstance(late.told[0], UsageError)
    assert "does not exist" in late.told[0].message
    assert not link.has_channels()
