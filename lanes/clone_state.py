"""A clone's state, as data: what a sync is planned on."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Literal

Place = Literal["local", "host"]


@dataclasses.dataclass(frozen=True)
class Lost:
    """Commits of a clone that origin had and has no longer. `shown` has some of them, newest first: `1a2b3c4 subject`.

    `own` are the clone's commits that origin never had, oldest first; `changes` the paths that differ between the clone and
    origin now; `made_by` who made what origin has instead; `pushed_by` who pushed that from this very clone.
    """

    count: int
    shown: tuple[str, ...] = ()
    own: tuple[str, ...] = ()
    own_has_merges: bool = False
    changes: tuple[str, ...] = ()
    made_by: tuple[str, ...] = ()
    pushed_by: str | None = None


@dataclasses.dataclass(frozen=True)
class Gone:
    """A branch that origin had. `alone` counts its commits that no branch of origin has; `elsewhere` is where to go on."""

    last: str | None = None
    alone: int = 0
    shown: tuple[str, ...] = ()
    elsewhere: str | None = None


@dataclasses.dataclass(frozen=True)
class Dirty:
    """One uncommitted file of a clone. `drift` is how a changed notebook differs: metadata only, or meaningfully."""

    path: str
    kind: str  # changed | untracked | conflicted | submodule
    is_staged: bool = False
    drift: Literal["metadata-only", "meaningful"] | None = None

    @property
    def is_metadata_only(self) -> bool:
        """Whether nothing but a notebook's metadata would be lost with it (S18-R03)."""
        return self.kind == "changed" and not self.is_staged and self.drift == "metadata-only"


@dataclasses.dataclass(frozen=True)
class CloneState:
    """One clone against origin as it last saw it. `ahead` and `behind` count commits; paths are what these change.

    `dirty` names the first some thousand uncommitted files; `unlisted` counts the others.
    """

    place: Place
    head: str | None
    branch: str | None
    origin_head: str | None
    ahead: int = 0
    behind: int = 0
    incoming: tuple[str, ...] = ()
    outgoing: tuple[str, ...] = ()
    dirty: tuple[Dirty, ...] = ()
    unlisted: int = 0
    operation: str | None = None
    is_index_locked: bool = False
    holding: tuple[str, ...] = ()
    reaches_origin: bool = True
    remote: str = "origin"
    push_remote: str = "origin"
    push_key: str = ""
    origin_url: str = ""
    lost: Lost | None = None
    gone: Gone | None = None

    @property
    def has_diverged(self) -> bool:
        """Whether both this clone and origin have commits of their own."""
        return bool(self.ahead and self.behind)


@dataclasses.dataclass(frozen=True)
class Lanes:
    """What the lanes say of paths: whose they are, and which notebooks would get logic into their cells (S9-R12)."""

    host_owned: frozenset[str] = frozenset()
    logic_gained: frozenset[str] = frozenset()

    def of_host(self, paths: Collection[str]) -> tuple[str, ...]:
        """Those of `paths` that the host owns, in order."""
        return tuple(sorted(set(paths) & self.host_owned))
