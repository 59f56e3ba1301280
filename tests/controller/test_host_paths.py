"""A path on the host keeps its `~`, although our own shell has expanded it."""

from __future__ import annotations

import pytest

from controller.flows.host_paths import on_host


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("/Users/me/work/x", "~/work/x"),
        ("/Users/me", "~"),
        ("/Users/me-too/x", "/Users/me-too/x"),
        ("~/x", "~/x"),
        ("/data", "/data"),
    ],
)
def test_the_laptops_home_is_turned_back(typed: str, kept: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/Users/me")
    assert on_host(typed) == kept


def test_no_path_stays_no_path() -> None:
    assert on_host(None) is None
