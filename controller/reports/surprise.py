"""The report of an unexpected error: versions and a traceback, with what could be a secret left out (S20-R03)."""

from __future__ import annotations

import os
import platform
import re
import sys
import time
import traceback
from collections.abc import Mapping
from importlib import metadata

from manifests.errors import HemmaError
from manifests.files import atomic_write
from manifests.places import state_dir
from remote.stdio import say

EXIT_SURPRISE = 70

LIBRARIES = ("hemma", "typer", "rich", "pydantic", "tomlkit", "fabric", "paramiko")


def redacted(text: str, environ: Mapping[str, str]) -> str:
    """`text` as the one masker leaves it, the values of secret-sounding variables included, with `~` for the home."""
    from lanes.redaction import redact, secret_values  # not before there is an error: `hemma run` comes here too

    text = redact(text, secret_values(environ)).text
    home = environ.get("HOME", "").rstrip("/")
    return re.sub(rf"{re.escape(home)}(?=/|\b)", "~", text) if home else text


def report(error: Exception, verb: str = "run") -> int:
    """Write the report of an unexpected error and say so on stderr in one line; returns the exit code, 70.

    Without rich: `hemma run` comes here too.
    """
    try:
        place = f"report: {write(error, verb, os.environ, os.path.join(state_dir(), 'reports'))}"
    except HemmaError as no_report:
        place = no_report.message
    say("failed", f"internal error: {type(error).__name__}; {place}")
    return EXIT_SURPRISE


def text_of(error: BaseException, verb: str, environ: Mapping[str, str]) -> str:
    """The report's text. Of the command line only the verb is in it."""
    versions = [f"{name} {_version(name)}" for name in LIBRARIES]
    head = [f"hemma {verb}", f"{platform.platform()}, python {platform.python_version()}", ", ".join(versions), ""]
    return redacted("\n".join([*head, *traceback.format_exception(error)]), environ)


def write(error: BaseException, verb: str, environ: Mapping[str, str], folder: str) -> str:
    """Write the report, mode 0600, into `folder`; returns its path. Raises HemmaError when that is impossible."""
    path = os.path.join(folder, f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{os.getpid()}.txt")
    atomic_write(path, text_of(error, verb, environ).encode("utf-8", "backslashreplace"))
    return path


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed" if name != "hemma" else f"from {os.path.basename(sys.argv[0])}"
