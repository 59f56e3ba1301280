"""Asking Drive once, and again: connections of each thread, the pace, the waits, and every fault as one of ours."""

from __future__ import annotations

import email.utils
import http.client
import json
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import google.auth.exceptions
import httplib2
import tenacity
from google_auth_httplib2 import AuthorizedHttp
from googleapiclient.errors import HttpError

from lanes.pacing import Bucket, Level, backoff_s, meaning_of, take
from remote.drive.store import DriveError, DriveUnreachable, NotInDrive, NotReadable, NotSignedIn, QuotaUsedUp

T = TypeVar("T")
MAX_KEYS = 100  # resource keys sent along; a header has a limit


@dataclass(frozen=True)
class Patience:
    """How often a passing fault is tried again, and how long between: exponential with jitter, in seconds."""

    tries: int = 8
    tries_offline: int = 4
    first_s: float = 0.5
    most_s: float = 32.0
    timeout_s: float = 60.0


class Passing(Exception):
    """A fault that may be gone at the next try; `asked_s` is what the server wants us to wait.

    `is_offline`: nobody was reached at all, which a long wait seldom mends.
    """

    def __init__(self, what: str, asked_s: float | None = None, *, is_offline: bool = False) -> None:
        super().__init__(what)
        self.asked_s = asked_s
        self.is_offline = is_offline


class Conflict(Exception):
    """The id is taken: an earlier try of ours had worked."""


class Caller:
    """Acts against Drive at a pace, again and again until a passing fault is over. One connection for each thread."""

    def __init__(self, credentials: Any, patience: Patience, bucket: Bucket) -> None:
        self.calls = 0
        self._credentials = credentials
        self._patience = patience
        self._bucket = bucket
        self._level = Level(bucket.burst, time.monotonic())
        self._keys: dict[str, str] = {}
        self._lock = threading.Lock()
        self._own = threading.local()
        self._connections: list[httplib2.Http] = []

    def use_key(self, file_id: str, resource_key: str | None) -> None:
        """Send this resource key along from now on."""
        if resource_key:
            with self._lock:
                self._keys.pop(file_id, None)
                self._keys[file_id] = resource_key
                if len(self._keys) > MAX_KEYS:
                    del self._keys[next(iter(self._keys))]

    def ask(self, request: Any, what: str) -> dict[str, Any]:
        """The answer to a request of Google's client, tried again as often as needed. `what`: what errors speak of."""
        request.headers.update(self.headers())
        return self.again(lambda: self.once(lambda: request.execute(http=self.connection()), what))

    def send(self, address: str, method: str, headers: dict[str, str], what: str) -> tuple[httplib2.Response, bytes]:
        """One request without a body, once; any status comes back. Raises as `once` does."""

        def act() -> tuple[httplib2.Response, bytes]:
            return self.connection().request(address, method, headers=headers)

        return self.once(act, what)

    def close(self) -> None:
        """End all connections."""
        with self._lock:
            for connection in self._connections:
                connection.close()
            self._connections.clear()

    def once(self, act: Callable[[], T], what: str) -> T:
        """`act` at its turn, with every way in which it can fail as one of ours, or as Passing or Conflict."""
        self._wait_turn()
        try:
            return act()
        except HttpError as error:
            self.refuse(error, what)
        except google.auth.exceptions.RefreshError as error:
            if error.retryable:
                raise Passing(f"signing in: {error}") from error
            raise NotSignedIn(f"Google no longer accepts the sign-in ({_first_line(error)})") from error
        except (
            OSError,
            http.client.HTTPException,
            httplib2.HttpLib2Error,
            google.auth.exceptions.TransportError,
        ) as error:
            self._drop_connection()
            raise Passing(f"{what}: {_first_line(error)}", is_offline=_is_offline(error)) from error
        except ValueError as error:  # an answer that was cut in the middle of its JSON
            raise Passing(f"{what}: the answer cannot be read") from error

    def again(self, act: Callable[[], T]) -> T:
        """`act` until it does not raise Passing. Raises DriveUnreachable after the last try."""
        retrying = tenacity.Retrying(
            stop=self._is_enough,
            wait=self._backoff,
            retry=tenacity.retry_if_exception_type(Passing),
            reraise=True,
        )
        try:
            return retrying(act)
        except Passing as error:
            raise DriveUnreachable(
                f"Drive gave no answer in {retrying.statistics.get('attempt_number')} tries; the last: {error}",
                remedy="look at your network, then do the same again: what is done is not done twice",
            ) from error

    def _is_enough(self, state: tenacity.RetryCallState) -> bool:
        error = state.outcome.exception() if state.outcome else None
        is_offline = isinstance(error, Passing) and error.is_offline
        most = min(self._patience.tries, self._patience.tries_offline) if is_offline else self._patience.tries
        return state.attempt_number >= most

    def _backoff(self, state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = error.asked_s if isinstance(error, Passing) else None
        patience = self._patience
        chance = random.random()  # noqa: S311 - jitter
        return backoff_s(state.attempt_number, chance, asked, first_s=patience.first_s, most_s=patience.most_s)

    def refuse(self, error: HttpError, what: str) -> NoReturn:
        """Raise what an error answer means: Passing, Conflict or one of ours."""
        reasons, said = _reasons(error)
        meaning = meaning_of(int(error.resp.status), reasons)
        text = f"{what}: {said or error.resp.reason} ({error.resp.status}{''.join(f', {r}' for r in sorted(reasons))})"
        if meaning == "passing":
            raise Passing(text, _retry_after(error.resp.get("retry-after"))) from error
        if meaning == "conflict":
            raise Conflict from error
        if meaning == "absent":
            raise NotInDrive(f"{text}: not there, or not for this account", remedy="hemma drive check LINK") from error
        if meaning == "unreadable":
            raise NotReadable(text, remedy="ask its owner for access, or hemma drive login --read-all") from error
        if meaning == "sign-in":
            raise NotSignedIn(text) from error
        if meaning == "used-up":
            raise QuotaUsedUp(text, remedy="make room in Drive, or wait a day") from error
        raise DriveError(text, remedy="this is not your doing; please report it") from error

    def headers(self) -> dict[str, str]:
        """What every request carries besides its sign-in."""
        with self._lock:
            keys = ",".join(f"{file_id}/{key}" for file_id, key in self._keys.items())
        return {"X-Goog-Drive-Resource-Keys": keys} if keys else {}

    def _wait_turn(self) -> None:
        with self._lock:
            self.calls += 1
            self._level, wait_s = take(self._bucket, self._level, time.monotonic())
        if wait_s:
            time.sleep(wait_s)

    def connection(self) -> AuthorizedHttp:
        """This thread's own connection."""
        found: AuthorizedHttp | None = getattr(self._own, "http", None)
        if found is None:
            connection = httplib2.Http(timeout=self._patience.timeout_s)
            # 308 is Drive's "go on with the upload", no redirection.
            connection.redirect_codes = connection.redirect_codes - {308}
            self._own.http = found = AuthorizedHttp(self._credentials, http=connection)
            with self._lock:
                self._connections.append(connection)
        return found

    def _drop_connection(self) -> None:
        found: AuthorizedHttp | None = getattr(self._own, "http", None)
        if found is not None:
            found.http.close()


def _reasons(error: HttpError) -> tuple[frozenset[str], str]:
    """The reasons and the message of an error's body; nothing when a proxy sent a page instead."""
    try:
        body = json.loads(error.content)["error"]
        return frozenset(str(each.get("reason", "")) for each in body.get("errors", [])), str(body.get("message", ""))
    except (ValueError, LookupError, TypeError, AttributeError):
        return frozenset(), ""


def _retry_after(value: str | None) -> float | None:
    """Seconds of a Retry-After header, which is a number or a date; None without one."""
    if not value:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


def _is_offline(error: BaseException | None) -> bool:
    """Whether nobody was reached: no such name, nobody listening. google-auth wraps what httplib2 said."""
    while error is not None:
        if isinstance(error, httplib2.ServerNotFoundError | ConnectionRefusedError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}"
