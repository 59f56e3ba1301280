"""One slice for all tests of a worker that only read it: issuing takes a process and two seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.rows.slices import a_row, a_slice, make_clone
from tests.support import RepositoryOnHost


@pytest.fixture(scope="session")
def plain_slice(tmp_path_factory: pytest.TempPathFactory, own_home: Path) -> Path:
    """A slice of 23 rows that all succeed, in shards of five."""
    return a_slice(tmp_path_factory.mktemp("plain-slice"), [a_row(number) for number in range(23)])


@pytest.fixture
def clone(tmp_path: Path) -> RepositoryOnHost:
    """A clone with a committed slice manifest over 12 rows."""
    return make_clone(tmp_path, [a_row(number) for number in range(12)])
