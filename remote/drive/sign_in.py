"""Google's three ways to let a program in, through google-auth; every fault as NotSignedIn, and no secret in any of them."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

import google.auth
import google.auth.exceptions

from remote.drive.store import NotSignedIn

GOOGLE_TOKENS = "https://oauth2.googleapis.com/token"


def from_token(kept: dict[str, Any]) -> Any:
    """Credentials from what `installed_app` gave and was kept as JSON."""
    from google.oauth2.credentials import Credentials

    needed: dict[str, Any] = {name: kept.get(name) for name in ("refresh_token", "client_id", "client_secret")}
    address = str(kept.get("token_uri") or GOOGLE_TOKENS)
    # from_authorized_user_info would go to Google whatever stands here; a test has a Google of its own on this machine.
    is_known = address == GOOGLE_TOKENS or urlsplit(address).hostname in ("127.0.0.1", "localhost", "::1")
    if not all(needed.values()) or not is_known:
        raise NotSignedIn("the kept sign-in is not whole")
    return Credentials(token=None, token_uri=address, scopes=kept.get("scopes"), **needed)


def service_account(path: str, scopes: list[str]) -> Any:
    """Credentials of a service account from its key file. Raises NotSignedIn naming the file, never its content."""
    from google.oauth2 import service_account as accounts

    try:
        return accounts.Credentials.from_service_account_file(path, scopes=scopes)
    except (OSError, ValueError, KeyError) as error:
        raise NotSignedIn(
            f"{path} is no key of a service account ({type(error).__name__})",
            remedy="download a JSON key for it, and share the folder in Drive with its address",
        ) from error


def application_default(scopes: list[str]) -> Any:
    """What this machine is signed in with by itself: $GOOGLE_APPLICATION_CREDENTIALS, gcloud, or the machine's own account."""
    try:
        found, _ = google.auth.default(scopes=scopes)
    except (google.auth.exceptions.GoogleAuthError, OSError) as error:
        raise NotSignedIn("nobody is signed in to Google here") from error
    return found


def installed_app(path: str, scopes: list[str], *, open_browser: bool) -> Any:
    """Ask the person in a browser; returns credentials with a refresh token. Waits up to five minutes.

    Raises NotSignedIn. Without `open_browser` the address is only printed.
    """
    from google_auth_oauthlib.flow import InstalledAppFlow

    try:
        flow: Any = InstalledAppFlow.from_client_secrets_file(path, scopes)
    except (OSError, ValueError, json.JSONDecodeError) as error:
        raise NotSignedIn(
            f"{path} is no OAuth client of type Desktop app ({type(error).__name__})",
            remedy="make one in the Google Cloud console (APIs & Services, Credentials) and download its JSON",
        ) from error
    prompt = "Open this address to let Hemma in:\n{url}"
    try:
        return flow.run_local_server(
            port=0, open_browser=open_browser, timeout_seconds=300, authorization_prompt_message=prompt
        )
    # The library lets through what its own parts raise: oauthlib's errors, a refused connection, a timeout.
    except Exception as error:
        raise NotSignedIn(f"the sign-in did not come about ({type(error).__name__})") from error
