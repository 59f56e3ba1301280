"""Undo: whatever was lost comes back as it was, byte for byte, and the undo itself can be undone. Real git throughout."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from remote.agent import restore, snapshot
from tests.real.undo_states import destroy, differences, make_state, observed
from tests.support import RepositoryOnHost, make_repository

PRECIOUS = ["*.ign", "ignored/**"]
SEEDS = range(120 if os.environ.get("HEMMA_FULL") else 14)


@pytest.fixture
def clone(tmp_path: Path) -> RepositoryOnHost:
    """A clone with one commit and its origin, both this test's own."""
    return make_repository(tmp_path)


def taken(clone: RepositoryOnHost, **options: object) -> snapshot.Snapshot:
    """A backup of the clone, which must be made."""
    made = snapshot.take(str(clone.path), reason="a test", precious=PRECIOUS, **options)  # type: ignore[arg-type]
    assert made is not None
    return made


@pytest.mark.parametrize("seed", SEEDS)
def test_any_state_comes_back_from_any_loss(clone: RepositoryOnHost, seed: int) -> None:
    chance = random.Random(seed)
    make_state(clone, chance)
    then = observed(clone.path)
    made = taken(clone)
    assert not made.left_out
    done = [destroy(clone.path, chance) for _ in range(chance.randrange(1, 6))]
    lost = observed(clone.path)
    outside = {path.name: path.stat().st_mtime_ns for path in clone.path.parent.iterdir() if path != clone.path}
    back = restore.restore(str(clone.path), made.ref)
    now = observed(clone.path)
    assert differences(then, now) == {}, done
    assert {path.name: path.stat().st_mtime_ns for path in clone.path.parent.iterdir() if path != clone.path} == outside
    assert not [each for each in back.missing if each.path]
    assert restore.restore(str(clone.path), made.ref, dry_run=True).is_empty()
    assert back.saved is not None
    restore.restore(str(clone.path), back.saved)
    again = observed(clone.path)
    assert differences(lost, again) == {}, done
    clone.git("fsck", "--strict")
