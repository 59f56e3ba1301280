"""The Hugging Face hub as the place of a result (S14-R03, S14-R06): one private repository, one commit, read back by digest.

The token is the one that huggingface_hub finds by itself (HF_TOKEN, or its login); it is never taken, kept or shown here.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from manifests.commands import Remedy, command, listed
from training.persist import (
    MANIFEST,
    DestinationRefused,
    Facts,
    Held,
    Listing,
    Progress,
    Receipt,
    compared,
    listed_in,
    listing_of,
    manifest_bytes,
    receipt_of,
)

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")


class Hub:
    """The repository `namespace/name`; the namespace is always said, so that nothing lands, or is billed, elsewhere."""

    def __init__(self, destination: str, name: str, below: str = "") -> None:
        """Results go to the repository `destination`, in its folder `below` when there is one.

        Raises DestinationRefused when it is not namespace/name.
        """
        if not _ID.fullmatch(destination):
            raise DestinationRefused(
                f"{destination!r} is not namespace/name", remedy="destination: my-name/my-model   (with its namespace)"
            )
        self._id, self._name = destination, name
        self._below = f"{below}/" if below else ""

    def resolve(self) -> Facts:
        """Who the token belongs to, and that it may write in this namespace. Raises DestinationRefused."""
        api = _api()
        who = _asked(api.whoami, what="the token")
        namespaces = [who.get("name"), *(each.get("name") for each in who.get("orgs") or [])]
        namespace = self._id.partition("/")[0]
        if namespace not in namespaces:
            raise DestinationRefused(
                f"the token of {who.get('name')} may not write to {namespace}",
                remedy=command("name one of: {}", listed(map(str, namespaces))),
            )
        there = _asked(lambda: api.repo_exists(self._id), what=self._id)
        return {**self._facts(api, None), "is_there": bool(there)}

    def put(self, folder: Path, on_progress: Progress | None = None) -> Receipt:
        """Push the files of `folder` in one commit: all of them show, or none."""
        api = _api()
        self.resolve()
        listing = listing_of(folder, on_progress)
        from huggingface_hub import CommitOperationAdd

        files: list[tuple[str, Any]] = [(name, str(folder / name)) for name in listing]
        files.append((MANIFEST, manifest_bytes(listing, self._name)))
        wanted = [CommitOperationAdd(path_in_repo=self._below + name, path_or_fileobj=source) for name, source in files]
        _asked(lambda: api.create_repo(self._id, private=True, exist_ok=True), what=self._id)
        done = _asked(lambda: api.create_commit(self._id, wanted, commit_message=self._name), what=self._id)
        return receipt_of("hub", **self._facts(api, done.oid), listing=listing, revision=done.oid, is_new=True)

    def verify(self, receipt: Receipt) -> Facts:
        """Ask the hub for the digests of what that commit holds: sha256 of large files, git's own of small ones."""
        api, revision = _api(), receipt["revision"]
        wanted = listed_in(json.dumps(receipt).encode(), "the receipt")
        entries = _asked(lambda: list(api.list_repo_tree(self._id, recursive=True, revision=revision)), what=self._id)
        there: Listing = {}
        for entry in entries:
            name = entry.path.removeprefix(self._below) if entry.path.startswith(self._below) else None
            if name in wanted and hasattr(entry, "blob_id"):
                there[name] = self._held(api, entry, wanted[name], revision)
        return compared(receipt, there)

    def _held(self, api: Any, entry: Any, wanted: Held, revision: str) -> Held:
        """What the hub holds under this name. A small file is fetched: its git digest would be a sha1 of ours."""
        if entry.lfs is not None:
            return Held(str(entry.lfs.sha256), int(entry.lfs.size))
        if int(entry.size) != wanted.size:
            return Held("", int(entry.size))
        with tempfile.TemporaryDirectory() as folder:  # not the cache: what was pushed from here may be in it
            path = _asked(
                lambda: api.hf_hub_download(self._id, entry.path, revision=revision, local_dir=folder), what=entry.path
            )
            return Held(hashlib.sha256(Path(path).read_bytes()).hexdigest(), int(entry.size))

    def _facts(self, api: Any, revision: str | None) -> dict[str, str]:
        place = f"{str(api.endpoint).rstrip('/')}/{self._id}"
        inside = self._below.rstrip("/")
        url = "/".join(filter(None, (place, revision and f"tree/{revision}", revision and inside)))
        return {"destination": "/".join(filter(None, (self._id, inside))), "url": url}


def _api() -> Any:
    try:
        from huggingface_hub import HfApi
    except ImportError as error:
        raise DestinationRefused(
            "huggingface_hub is not installed in this environment", remedy="pip install 'hemma[train]'"
        ) from error
    return HfApi()


def _asked(call: Callable[[], Any], *, what: str) -> Any:
    """What the hub answers; its refusals and a missing network in our words. No message of it repeats the token."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalTokenNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    try:
        return call()
    except LocalTokenNotFoundError as error:
        raise _refused("the hub", "there is no token", "hf auth login   (or set HF_TOKEN on the host)") from error
    except OfflineModeIsEnabled as error:
        raise _refused("the hub", "HF_HUB_OFFLINE is set", "unset it, or persist to a directory") from error
    except (RepositoryNotFoundError, GatedRepoError) as error:
        raise _refused(what, "not there for this token", "hf auth whoami") from error
    except HfHubHTTPError as error:
        code = getattr(error.response, "status_code", "nothing")
        raise _refused(what, f"the hub answered {code}", "hf auth whoami") from error
    except (HFValidationError, ValueError) as error:
        raise _refused(what, str(error).splitlines()[0], "hf auth whoami") from error
    except Exception as error:  # the hub's client has changed its HTTP library twice, and each has errors of its own
        raise _refused("the hub", f"cannot be reached ({type(error).__name__})", "persist to a directory") from error


def _refused(what: str, fact: str, remedy: Remedy) -> DestinationRefused:
    return DestinationRefused(f"{what}: {fact}", remedy=remedy, code="destination-unreachable")
