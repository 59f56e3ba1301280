"""Secrets in text, argument lists and environments are masked; ordinary text stays as it is."""

from __future__ import annotations

import base64
import random
import string
import urllib.parse
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanes.redaction import mask, redact, redact_argv, redact_value, secret_values

pytestmark = pytest.mark.req("S20-R03")
REPOSITORY = Path(__file__).resolve().parents[2]
_chance = random.Random(20_261_121)


def chance(length: int, alphabet: str = string.ascii_letters + string.digits) -> str:
    """A value that nobody wrote down before."""
    return "".join(_chance.choice(alphabet) for _ in range(length))


# Put together here, so that no scanner takes this file for a leak.
SHAPED = {
    "hugging-face": "hf" + "_" + chance(34),
    "github": "ghp" + "_" + chance(36),
    "github-fine": "github" + "_pat_" + chance(40),
    "gitlab": "glpat" + "-" + chance(24),
    "openai": "sk" + "-proj-" + chance(40),
    "aws": "AKIA" + chance(16, string.ascii_uppercase + string.digits),
    "google": "AIza" + chance(35),
    "slack": "xoxb" + "-" + chance(12, string.digits) + "-" + chance(24),
    "stripe": "sk" + "_live_" + chance(24),
    "pypi": "pypi" + "-" + chance(60),
    "npm": "npm" + "_" + chance(36),
    "jwt": f"eyJ{chance(20)}.eyJ{chance(40)}.{chance(43)}",
}
PLACES = {
    "prose": "I used {} for that.",
    "python": 'client = Client("{}")',
    "json": '{{"a": [1, "{}"]}}',
    "yaml": "login:\n  with: {}\n",
    "shell": "export FOO={}; run",
    "traceback": "ValueError: bad login {!r}",
    "header": "Authorization: Bearer {}",
    "url": "https://user:{}@example.invalid/repo.git",
    "ansi": "\x1b[31m{}\x1b[0m failed",
    "query": "GET /x?y=1&token={}&z=2",
}


@pytest.mark.parametrize("place", PLACES.values(), ids=list(PLACES))
@pytest.mark.parametrize("secret", SHAPED.values(), ids=list(SHAPED))
def test_secret_of_a_known_shape_is_masked_wherever_it_stands(secret: str, place: str) -> None:
    found = redact(place.format(secret))
    assert secret not in found.text
    assert found.total == 1


NAMED = (
    "password = 'hunter2'",
    'DB_PASSWORD: "correct horse battery staple"',
    "aws_secret_access_key = {}",
    '"apiKey": "{}"',
    "os.environ['WANDB_API_KEY'] = '{}'",
    "--hub-token {} --epochs 3",
    "export MY_SECRET={}",
    "%env HF_TOKEN={}",
    "ENV NPM_TOKEN {}",
    'config = {{\\"token\\": \\"{}\\"}}',
    "token={} ",
    "Authorization: Basic {}",
    "curl -H 'authorization: bearer {}'",
)


@pytest.mark.parametrize("line", NAMED)
def test_value_under_a_secret_name_is_masked(line: str) -> None:
    value = chance(17) + "7"  # of letters only, bare, it could be a name in code, and those are left
    found = redact(line.format(value))
    assert value not in found.text
    assert not any(word in found.text for word in ("hunter2", "horse"))
    assert found.total >= 1


def test_three_x_within_a_value_make_it_no_placeholder() -> None:
    assert redact("api_key = 9mhtXxXURso1Sv6NQ7").total == 1


HARMLESS = (
    "api_key = hf_xxxxxxxxxxxx",
    "token: sk-xxxx-xxxx-1234",
    "tokens = tokenizer(text)['input_ids']",
    "max_tokens=4096, pad_token='<pad>', eos_token=\"</s>\"",
    "token = os.environ['HF_TOKEN']",
    "password: ${{ secrets.PASSWORD }}",
    'api_key = "your-api-key-here"',
    "the token: a word or a piece of one",
    "secret: bool = False",
    "commit 66dee5f1c0ffee66dee5f1c0ffee66dee5f1c0ff",
    "sha256:" + "0123456789abcdef" * 4,
    "run 20261121T101112-1f2e3d4c, id 550e8400-e29b-41d4-a716-446655440000",
    "flash_attn_2_cuda.cpython-312-x86_64-linux-gnu.so",
    "tests/real/test_readme_tour.py::TestTheWholeTour2::test_Every_Command_Prints[1]",
    "MixtralForSequenceClassificationOutputWithPast2",
    "https://user@example.invalid:8080/path?a=1",
    "a basic understanding of bearer capabilities; basic self-attention",
    "git@github.com:organisation/repository.git",
    "Keys: push_to_hub_token : *Arguments *Config : hub_token : same : renamed",
)


@pytest.mark.parametrize("text", HARMLESS)
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert redact(text).text == text


def test_private_key_is_masked_whole_also_when_cut() -> None:
    body = "\n".join(chance(64) for _ in range(5))
    key = f"-----BEGIN OPENSSH PRIVATE KEY-----\n{body}\n-----END OPENSSH PRIVATE KEY-----\n"
    assert redact("before\n" + key + "after").text == f"before\n{mask('private-key')}\nafter"
    assert chance(0) + body[:64] not in redact("before\n" + key[:120]).text


def test_unnamed_token_of_chance_is_masked() -> None:
    missed = [word for word in (chance(40) for _ in range(500)) if word in redact(f"use {word} there").text]
    assert len(missed) <= 15, missed[:5]


@pytest.mark.parametrize("length", [8, 12, 21])
def test_known_value_is_masked_in_every_form(length: int) -> None:
    value = "p&" + chance(length) + '"/ö'
    raw = value.encode()
    forms = (
        value,
        base64.b64encode(raw).decode(),
        base64.urlsafe_b64encode(raw).decode(),
        urllib.parse.quote(value, safe=""),
        raw.hex(),
        value.replace('"', '\\"'),
    )
    for form in forms:
        text = redact(f"<{form}>", [value]).text
        assert form.rstrip("=") not in text
        assert mask("known-value") in text


def test_longer_known_value_leaves_no_rest_of_it() -> None:
    assert redact("abcdef123", ["abcdef", "abcdef123"]).text == mask("known-value")


def test_argv_is_masked_also_in_words_of_their_own() -> None:
    argv = ["train", "--hub-token", "s3cretvalue", "--lr", "1e-4", "--password=hunter2!", "--token-count", "x"]
    masked = mask("named-value")
    # A word after a secret's option is masked whatever it is: `--token-count` names one by its looks.
    assert redact_argv(argv)[:5] == ["train", "--hub-token", masked, "--lr", "1e-4"]
    assert "hunter2" not in " ".join(redact_argv(argv))
    assert redact_argv(["--token", "$HF_TOKEN"]) == ["--token", "$HF_TOKEN"]
    assert redact_argv(["--token", "--verbose"]) == ["--token", "--verbose"]


def test_environment_is_masked_by_name_and_by_shape() -> None:
    env = {"PATH": "/usr/bin", "HF_TOKEN": "short", "X": SHAPED["github"], "AUTHOR": "A. Person", "EMPTY_TOKEN": ""}
    assert redact_value(env) == {
        "PATH": "/usr/bin",
        "HF_TOKEN": mask("named-value"),
        "X": mask("github"),
        "AUTHOR": "A. Person",
        "EMPTY_TOKEN": "",
    }
    assert secret_values({"HF_TOKEN": "long-enough", "SHORT_TOKEN": "abc", "HOME": "/somewhere"}) == ["long-enough"]


@pytest.mark.req("S20-R01")
def test_500_canaries_leave_no_trace() -> None:
    """A value that is known (it stood in the environment) is found in any text around it."""
    for _ in range(500):
        canary = chance(_chance.randrange(8, 60), string.ascii_letters + string.digits + "-_+/=.")
        around = chance(_chance.randrange(0, 30), string.printable)
        assert canary not in redact(around + canary + around, [canary]).text


@given(st.text(max_size=400))
def test_masking_twice_changes_nothing_more(text: str) -> None:
    once = redact(text).text
    assert redact(once).text == once


@given(st.sampled_from(list(SHAPED.values())), st.sampled_from(list(PLACES.values())))
def test_masking_secrets_twice_changes_nothing_more(secret: str, place: str) -> None:
    once = redact(place.format(secret)).text
    assert redact(once).text == once


@given(st.text(max_size=300), st.text(min_size=6, max_size=40).filter(lambda value: not value.startswith("[redacted")))
def test_known_value_never_survives(text: str, value: str) -> None:
    masked = redact(text + value + text, [value]).text
    assert value not in masked.replace("[redacted: ", "\0").replace("known-value]", "\0")


def test_a_megabyte_is_masked_in_a_moment() -> None:
    """Regular expressions that go back and forth would take minutes here."""
    text = ("a_b-c.d" * 20 + " token" * 3 + "=" + "x" * 50 + " sk-" + "y" * 10 + "://" + "z" * 90 + ":\n") * 3000
    assert redact(text[: 1 << 20]).text


def test_own_text_is_hardly_touched() -> None:
    pages = [*REPOSITORY.glob("*.md"), *REPOSITORY.glob("runbooks/**/*.md"), *REPOSITORY.glob("lanes/*.py")]
    assert [page.name for page in pages if redact(page.read_text(encoding="utf-8")).total] == []
