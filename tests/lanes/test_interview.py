"""Which answers the interview takes, and that none it takes or refuses gives a secret away (S17-R10, S17-R11)."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanes.interview import KEYS, GpuPlan, Refused, accepted, aliases, gpu_plan, repositories_in

PLATFORMS = ("colab", "runpod", "ssh-host")
TOKENS = {
    "hugging face": "hf_" + "aB3dE5fG7hJ9kL1mN3pQ5rS7tU9v",
    "github": "ghp_" + "aB3dE5fG7hJ9kL1mN3pQ5rS7tU9vW1xY3",
    "weights and biases": "0123456789abcdef" * 2 + "01234567",
    "aws": "AKIA" + "ABCDEFGHIJKLMNOP",
    "password in a url": "https://me:hunter22@example.org/x",
    "assignment": "HF_TOKEN=hf_abcdefgh12345",
    "private key": "-----BEGIN OPENSSH PRIVATE KEY-----",
    "long and mixed": "/home/me/q8Zk2LmN5pR7sT1vWx3yZaB4cD6",
}


@pytest.mark.req("S17-R10")
@pytest.mark.parametrize(
    ("key", "answer", "kept"),
    [
        ("host", " gpu-box ", "gpu-box"),
        ("host", "me@box.example.org:2222", "me@box.example.org:2222"),
        ("platform", "ssh", "ssh-host"),
        ("platform", "RunPod", "runpod"),
        ("root", "~/work/repo", "~/work/repo"),
        ("root", "/srv/Grüße/a b", "/srv/Grüße/a b"),
        ("entry", "./src/train.py", "src/train.py"),
        ("entry", "package.module:main", "package.module:main"),
        ("configs", "conf/", "conf"),
        ("tracker", "me", "me"),
        ("tracker", "me/runs", "me/runs"),
        ("tracker_key", "HF_TOKEN", "HF_TOKEN"),
        ("tracker_key", "WANDB_API_KEY", "WANDB_API_KEY"),
        ("tracker_key", "TOKEN", "TOKEN"),
        ("tracker_key", "~/.netrc", "~/.netrc"),
        ("gpu", "none", "none"),
        ("gpu", "Required, 8 hours", "required 8h"),
        ("gpu", "optional 1.50h", "optional 1.5h"),
        ("disk_gb", "500", "500"),
        ("disk_gb", "1.5 TB", "1500"),
    ],
)
def test_an_answer_is_kept_in_its_regular_form(key: str, answer: str, kept: str) -> None:
    assert accepted(key, answer, platforms=PLATFORMS) == kept
    assert accepted(key, kept, platforms=PLATFORMS) == kept


@pytest.mark.parametrize(
    ("key", "answer", "rule"),
    [
        ("host", "-oProxyCommand=id", "alias"),
        ("host", "two words", "alias"),
        ("host", "me:hunter22@box", "password"),
        ("platform", "mars", "no platform"),
        ("root", "work/repo", "starts with /"),
        ("entry", "/etc/passwd", "inside"),
        ("entry", "../x.py", "inside"),
        ("entry", "python train.py", "a file or a module"),
        ("configs", "a/../../b", "inside"),
        ("configs", "/", "inside"),
        ("tracker", "a/b/c", "OWNER/SPACE"),
        ("tracker_key", "JBSWY3DPEHPK3PXP", "may be a secret"),
        ("tracker_key", "JBSWYDPEHPKPXPAB", "may be a secret"),
        ("tracker_key", "hunter22", "may be a secret"),
        ("tracker_key", "my-secret-word", "may be a secret"),
        ("gpu", "two", "none, optional or required"),
        ("gpu", "required 0h", "none, optional or required"),
        ("disk_gb", "0", "above 0"),
        ("disk_gb", "nan", "above 0"),
        ("disk_gb", "1e9", "above 0"),
    ],
)
def test_an_answer_that_fits_no_rule_is_refused_with_what_to_do(key: str, answer: str, rule: str) -> None:
    with pytest.raises(Refused, match=rule) as refused:
        accepted(key, answer, platforms=PLATFORMS)
    assert refused.value.mend
    assert answer not in refused.value.rule or len(answer) < 4


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize(
    ("answer", "rule"),
    [
        ("", "one line"),
        (" \t ", "one line"),
        ("a\nb", "one line"),
        ("a\x1b[31mb", "one line"),
        ("a\x00b", "one line"),
        ("caf\udce9", "UTF-8"),
        ("x" * 10_000, "longer than 300"),
        ("~/" + "\u202e" + "gnp.exe", "one line"),
    ],
)
def test_no_question_takes_what_is_no_line_of_text(key: str, answer: str, rule: str) -> None:
    with pytest.raises(Refused, match=rule):
        accepted(key, answer, platforms=PLATFORMS)


@pytest.mark.req("S17-R11")
@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("token", TOKENS.values(), ids=TOKENS)
def test_a_secret_is_no_answer_to_anything_and_is_not_repeated(key: str, token: str) -> None:
    with pytest.raises(Refused) as refused:
        accepted(key, token, platforms=PLATFORMS)
    assert token not in refused.value.rule + refused.value.mend


@pytest.mark.req("S17-R11")
def test_the_value_of_a_secret_variable_is_known_whatever_it_looks_like() -> None:
    assert accepted("tracker", "plainword") == "plainword"
    with pytest.raises(Refused, match="looks like a secret"):
        accepted("tracker", "plainword", known=["plainword"])
    # What such a variable says may be where a key lies: that is what is asked for.
    assert accepted("tracker_key", "/srv/key.json", known=["/srv/key.json"]) == "/srv/key.json"


@given(
    key=st.sampled_from(KEYS),
    text=st.text(max_size=400) | st.text(string.ascii_letters + "/~._-0123456789", max_size=60),
)
def test_whatever_is_answered_is_refused_or_kept_for_good(key: str, text: str) -> None:
    said: Refused | None = None
    try:
        kept = accepted(key, text, platforms=PLATFORMS)
    except Refused as refused:
        said, kept = refused, ""
    assert (said is None) == bool(kept)
    if said is not None:
        assert said.rule
        assert said.mend
        return
    assert kept.isprintable()
    assert accepted(key, kept, platforms=PLATFORMS) == kept


def test_a_plan_is_a_mode_and_perhaps_hours() -> None:
    assert gpu_plan("required 8h") == GpuPlan("required", 8.0)
    assert gpu_plan("none") == GpuPlan("none", None)


def test_the_hosts_of_an_ssh_config_are_those_it_names_one_by_one() -> None:
    text = "Host gpu box2\n  HostName 10.0.0.1\nhost=third\nHost *\nHost !x *.org\n# Host no\nMatch host y\nHost gpu\n"
    assert aliases(text) == ["gpu", "box2", "third"]


@pytest.mark.parametrize(
    ("root", "folder"),
    [("~/work/repo", "~/work"), ("/srv/repo/", "/srv"), ("~/other", None), ("/repo", None), ("~", None)],
)
def test_the_folder_of_repositories_follows_from_one_that_is_called_like_its_own(root: str, folder: str | None) -> None:
    assert repositories_in(root, "repo") == folder
