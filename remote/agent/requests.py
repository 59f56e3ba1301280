"""What a client may ask for, as shapes: a request is looked at here before any of it is used.

Names besides are let be, since nobody reads them. What a request means is judged where it is done.
"""

from __future__ import annotations

from .shapes import (
    CLONE,
    PATH,
    WORD,
    BadShape,
    anything,
    either,
    encoded,
    flag,
    listed,
    mapped,
    maybe,
    number,
    pair,
    record,
    text,
    whole,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .shapes import Shape

_RUN = text(WORD)  # whatever a person types; one that is no name of a run is told so
_MODE = maybe(whole(0, 0o777))
_CONTENT = maybe(encoded(12 << 20))
_PTY = record({"rows": whole(0, 65535), "columns": whole(0, 65535)}, {"term": text(256)}, is_open=True)
_STEP = record(
    {"argv": listed(text(WORD))},
    {
        "input": maybe(text(16 << 20)),
        "env": maybe(mapped(text(WORD))),
        "may_fail": maybe(flag),
        "taking": maybe(text(256)),
        "keep_bytes": maybe(whole()),
    },
    is_open=True,
)
_VIEW = {"offsets": maybe(pair(whole())), "follow": maybe(flag), "hold": maybe(flag), "tail_bytes": maybe(whole())}


def _request(needed: dict[str, Shape], more: dict[str, Shape]) -> Shape:
    every = {"state_dir": maybe(PATH), "root": maybe(PATH), "clone": maybe(CLONE)}
    return record({"verb": text(64), **needed}, {**every, **more}, is_open=True)


_SHAPES = {
    "run": _request(
        {"run_id": text(128, "[A-Za-z0-9][A-Za-z0-9._-]*")},
        {
            "argv": maybe(listed(text(WORD))),
            "env": maybe(mapped(text(WORD))),
            "require": maybe(listed(pair(anything))),
            "pty": maybe(_PTY),
            "lane": text(64),
            "is_repeated": maybe(flag),
            **dict.fromkeys(("timeout_s", "lease_s"), maybe(number)),
            **dict.fromkeys(("login", "stdin"), maybe(flag)),
            **dict.fromkeys(("shell", "cwd", "who", "host_name"), maybe(text(WORD))),
            **_VIEW,
        },
    ),
    "attach": _request({"run": _RUN}, {"action": maybe(text(64)), "grace_s": maybe(number), **_VIEW}),
    "list": _request({}, {"not_sooner_than_s": maybe(number), "most": maybe(whole()), "before": maybe(_RUN)}),
    "show": _request({"run": _RUN}, {}),
    "remove": _request({"run_ids": listed(text(256))}, {}),
    "kill": _request({"run": _RUN}, {"signal": whole(0, 64)}),
    "probe": _request({}, {"client_time_s": maybe(number)}),
    "git-state": _request({}, {"know": maybe(listed(text(256)))}),
    "git-steps": _request({"steps": listed(_STEP, 10_000)}, {}),
    "undo": _request(
        {},
        {
            "action": either("list", "restore"),
            "what": maybe(text(256)),
            "at_s": maybe(number),
            "paths": maybe(listed(PATH)),
            "dry_run": maybe(flag),
        },
    ),
    "backup": _request({}, {"reason": text(256), "keep_days": maybe(number), "keep_gb": maybe(number)}),
    "file-read": _request({"path": PATH}, {"offset": whole(), "length": whole(), "version": maybe(text(256))}),
    "file-write": _request(
        {"path": PATH},
        {
            "content_base64": _CONTENT,
            "mode": _MODE,
            "create_mode": _MODE,
            **dict.fromkeys(("expected_digest", "digest", "upload"), maybe(text(64))),
            **dict.fromkeys(("offset", "size"), whole()),
        },
    ),
    "run-files": _request(
        {"run": _RUN}, {"paths": listed(PATH, 1000), "offsets": maybe(mapped(whole())), "having": maybe(PATH)}
    ),
    "values-missing": _request({}, {"names": listed(text(80)), "paths": maybe(listed(PATH))}),
    "value-put": _request({"name": text(80)}, {"content_base64": _CONTENT}),
}
_OTHER = _request({}, {})


def check(request: dict[str, object]) -> None:
    """Raise BadShape unless this is a request that its verb can have."""
    verb = request.get("verb")
    _SHAPES.get(verb if isinstance(verb, str) else "", _OTHER)(request)
    if verb == "run" and not request.get("argv") and request.get("shell") is None:
        raise BadShape("empty", ".argv")
