"""Any argv, any environment and any input survive the whole way: hypothesis looks for one that does not."""

from __future__ import annotations

import os
import shlex
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.flows import run as flow
from remote.host import target_of
from remote.session import Session
from tests.support import Cli

# Whatever execve takes: bytes without NUL, decoded as Python decodes its own command line.
raw_words = st.binary(max_size=200).map(lambda raw: os.fsdecode(raw.replace(b"\0", b"")))
words = st.one_of(raw_words, st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=80))
names = words.map(lambda name: name.replace("=", "_")).filter(bool)
# Names that mean something to the loader or to us, and which the request may set all the same, are not asked for here.
plain_names = names.map(lambda name: "X" + name)


class Collected:
    """The end of a run: what came out of it."""

    def __init__(self) -> None:
        self.out, self.err, self.code = bytearray(), bytearray(), -1


def run(environ: dict[str, str], argv: list[str], **options: Any) -> Collected:
    """Run argv on the host through this process's own session; the broker stays warm between calls."""
    host = {
        "ssh": environ["HEMMA_HOST"],
        "root": environ["HEMMA_ROOT"],
        "python": environ["HEMMA_PYTHON"],
        "state_dir": environ["HEMMA_HOST_STATE_DIR"],
        "ssh_config": environ["HEMMA_SSH_CONFIG"],
        "keepalive_s": 15.0,
        "connect_timeout_s": 10.0,
        "is_said": True,  # this process stands in another repository
    }
    request = flow.request_of({"host": host, "env": {}}, {"lease_s": 60.0, **options}, argv, is_run=True)
    found = Collected()
    session = Session(target_of(host), request, (found.out.extend, found.err.extend))
    found.code = int(session.follow()["exit_code"])
    return found


@pytest.fixture
def environ(hemma: Cli) -> dict[str, str]:
    """The environment of this process is the CLI's, whose broker was started by the CLI and is no child of ours."""
    assert hemma("run", "--", "true").returncode == 0
    os.environ.update(hemma.environ)
    return hemma.environ


# The environment is set once for all examples of a test, and put back after it: that is what is wanted here.
fewer = settings(
    max_examples=min(100, settings.default.max_examples if settings.default else 100),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.mark.req("S9-R21")
@fewer
@given(argv=st.lists(words, max_size=8))
def test_any_argv_round_trips(environ: dict[str, str], argv: list[str]) -> None:
    # Without arguments printf prints its format once, hence the first word.
    found = run(environ, ["printf", "%s\\0", "first", *argv])
    assert (found.code, bytes(found.err)) == (0, b"")
    assert found.out.split(b"\0")[1:-1] == [os.fsencode(word) for word in argv]


@pytest.mark.req("S9-R21")
@fewer
@given(env=st.dictionaries(plain_names, words, max_size=6))
def test_any_environment_round_trips(environ: dict[str, str], env: dict[str, str]) -> None:
    found = run(environ, ["env", "-0"], env=env)
    seen = dict(pair.split(b"=", 1) for pair in bytes(found.out).split(b"\0") if pair)
    assert {name: seen.get(os.fsencode(name)) for name in env} == {n: os.fsencode(value) for n, value in env.items()}


@fewer
@given(words)
def test_any_shell_word_is_one_word(environ: dict[str, str], word: str) -> None:
    found = run(environ, [], shell="printf %s " + shlex.quote(word))
    assert (found.code, bytes(found.out)) == (0, os.fsencode(word))
