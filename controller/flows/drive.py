"""Which store is meant, and how to be let in: the setting `drive`, sign-in, and a check of all of it (S9-R15, S20-R03).

The token file holds what Google's own libraries call an authorized user; it is the user's alone (0600) and never shown.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from controller.settings import demand_trust, read_files
from lanes.drive_links import DriveLink, parse_link
from manifests.errors import UsageError
from manifests.files import parse_json, read_json, write_json
from manifests.ownership import read_own
from manifests.places import config_dir, private_dir, state_dir
from remote.drive.folder import ROOT, FolderStore
from remote.drive.store import Entry, NotSignedIn, Store

if TYPE_CHECKING:
    from remote.drive.google import GoogleStore

FOLDER_WORD = "folder:"
SCOPES = {
    "file": "https://www.googleapis.com/auth/drive.file",
    "read": "https://www.googleapis.com/auth/drive.readonly",
    "all": "https://www.googleapis.com/auth/drive",
}
TOKEN_NAME = "drive-token.json"  # noqa: S105 - the name of a file


@dataclass(frozen=True)
class Place:
    """A store and the folder in it that everything of this project lies below."""

    store: Store
    root: str
    shown: str

    @property
    def is_google(self) -> bool:
        """Whether it is Drive itself, not a folder in its place."""
        return not isinstance(self.store, FolderStore)


def setting(start: str, environ: Mapping[str, str]) -> str:
    """What `drive` says for the folder `start`: $HEMMA_DRIVE_PLACE, else [tool.hemma]. Raises UsageError when nobody says."""
    files = read_files(start, environ)
    chosen = environ.get("HEMMA_DRIVE_PLACE") or files.project.drive
    if not chosen:
        raise UsageError(
            "no Drive is named for this folder",
            remedy='write drive = "folder:PATH" or drive = "LINK TO A FOLDER" below [tool.hemma] of pyproject.toml',
        )
    if chosen == files.project.drive:
        demand_trust(files)
    if chosen.startswith(FOLDER_WORD) and files.sources.pyproject_path:
        path = os.path.expanduser(chosen.removeprefix(FOLDER_WORD))
        return FOLDER_WORD + os.path.join(os.path.dirname(files.sources.pyproject_path), path)
    return chosen


def open_place(chosen: str, environ: Mapping[str, str]) -> Place:
    """The store behind `chosen`: folder:PATH, or a link to or the id of a folder in Drive.

    Asks nobody yet. Raises UsageError for what is neither, NotSignedIn without credentials.
    """
    if chosen.startswith(FOLDER_WORD):
        path = chosen.removeprefix(FOLDER_WORD)
        if not path:
            raise UsageError("`folder:` names no folder", remedy='drive = "folder:~/hemma-drive"')
        return Place(FolderStore(path), ROOT, chosen)
    link = link_of(chosen)
    store = google_store(environ)
    store.use_key(link.id, link.resource_key)
    return Place(store, link.id, chosen)


def link_of(text: str) -> DriveLink:
    """The id and key in a link. Raises UsageError with the reason when it is none."""
    found = parse_link(text)
    if isinstance(found, DriveLink):
        return found
    raise UsageError(f"`{text}`: {found.reasons[0].fact}", remedy=found.next_steps[0])


def google_store(environ: Mapping[str, str]) -> GoogleStore:
    """Drive with the credentials that are here. Raises NotSignedIn."""
    from remote.drive.google import ENDPOINT, GoogleStore
    from remote.drive.sessions import UploadSessions

    endpoint = environ.get("HEMMA_DRIVE_ENDPOINT") or ENDPOINT
    if endpoint != ENDPOINT and urlsplit(endpoint).hostname not in ("127.0.0.1", "localhost", "::1"):
        raise UsageError("HEMMA_DRIVE_ENDPOINT may only name this machine", remedy="unset HEMMA_DRIVE_ENDPOINT")
    sessions = UploadSessions(os.path.join(private_dir(os.path.join(state_dir(), "drive")), "uploads.json"))
    return GoogleStore(credentials(), endpoint=endpoint, sessions=sessions)


# --- credentials -------------------------------------------------------------------------------------------------------


def token_path() -> str:
    """Where the sign-in is kept."""
    return os.path.join(config_dir(), TOKEN_NAME)


def credentials() -> Any:
    """What was signed in with: the token file, else a service account it names, else Google's application default.

    Raises NotSignedIn.
    """
    from remote.drive import sign_in

    path = token_path()
    if not os.path.exists(path):
        return sign_in.application_default([SCOPES["all"]])
    kept = parse_json(read_own(path, is_secret=True), path)
    if "service_account_file" in kept:
        return sign_in.service_account(str(kept["service_account_file"]), list(kept.get("scopes", [])))
    if kept.get("application_default"):
        return sign_in.application_default(list(kept.get("scopes", [])))
    return sign_in.from_token(kept)


def login(
    *, client_secrets: str | None, service_account: str | None, is_default: bool, scope: str, open_browser: bool
) -> dict[str, Any]:
    """Sign in one of three ways and keep it; returns who it is, without any secret. Raises UsageError, NotSignedIn."""
    from remote.drive import sign_in

    wanted = [SCOPES["file"]] + ([SCOPES["read"]] if scope == "read" else [])
    wanted = [SCOPES["all"]] if scope == "all" else wanted
    ways = [way for way in (client_secrets, service_account, is_default or None) if way]
    if len(ways) != 1:
        raise UsageError(
            "one way to sign in is needed: --client FILE, --service-account FILE or --adc",
            remedy="hemma drive login --client client_secret.json   (an OAuth client of type Desktop app)",
        )
    if service_account:
        path = os.path.abspath(os.path.expanduser(service_account))
        sign_in.service_account(path, wanted)
        kept: dict[str, Any] = {"service_account_file": path, "scopes": wanted}
    elif is_default:
        sign_in.application_default(wanted)
        kept = {"application_default": True, "scopes": wanted}
    else:
        secrets = os.path.abspath(os.path.expanduser(str(client_secrets)))
        made = sign_in.installed_app(secrets, wanted, open_browser=open_browser)
        kept = json.loads(made.to_json())
    private_dir(config_dir())
    write_json(token_path(), kept)
    return {"token_file": token_path(), "scopes": wanted}


def logout() -> bool:
    """Forget the sign-in on this machine; whether there was one."""
    try:
        os.unlink(token_path())
    except FileNotFoundError:
        return False
    return True


# --- check -------------------------------------------------------------------------------------------------------------


def check(place: Place, target: str | None) -> dict[str, Any]:
    """What can be seen of the place, or of the one link `target`: account, folder, what may be done there.

    Raises as the store does: what is not there or not readable is an error with the reason.
    """
    from remote.drive.google import GoogleStore

    found: dict[str, Any] = {"store": place.store.name, "shown": place.shown}
    item = place.root
    if target:
        link = link_of(target) if place.is_google else None
        item = link.id if link else target
        if isinstance(place.store, GoogleStore) and link:
            place.store.use_key(link.id, link.resource_key)
    if isinstance(place.store, GoogleStore):
        account = place.store.account()
        found["account"] = account.get("user", {}).get("emailAddress")
        found["scopes"] = _scopes()
    entry = place.store.metadata(item)
    found |= {"id": entry.id, "name": entry.name, "kind": entry.kind, "is_trashed": entry.is_trashed}
    found["may_read"] = entry.kind == "folder" or entry.may_download
    if entry.kind == "folder":
        found["entries"] = len(place.store.list(item))
    else:
        found["size_bytes"] = entry.size
    return found


def _scopes() -> list[str]:
    try:
        return [str(scope) for scope in read_json(token_path()).get("scopes") or []]
    except (OSError, ValueError, NotSignedIn):
        return []


def child(store: Store, parent: str, name: str) -> Entry | None:
    """The folder called `name` in `parent`; of several the oldest, so that all machines agree on one."""
    found = [entry for entry in store.list(parent) if entry.name == name and entry.kind == "folder"]
    return min(found, key=lambda entry: (entry.modified, entry.id)) if found else None
