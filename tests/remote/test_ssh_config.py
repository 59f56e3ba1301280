"""Both readers of ssh_config, `ssh -G` and the one in Python, lead to the same place, and that place is ssh's own."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.errors import UsageError
from remote import ssh_config
from remote.ssh_config import SshTarget

CONFIGS: dict[str, tuple[str, list[str]]] = {
    "nothing": ("", ["a-host", "10.0.0.1", "me@a-host", "a-host:2222", "me@[::1]:22"]),
    "alias": ("Host gpu\n  HostName gpu.example.org\n  User ada\n  Port 2200\n", ["gpu", "other", "bob@gpu", "gpu:22"]),
    "first value wins": (
        "Host gpu\n  User one\nHost g*\n  User two\n  Port 99\nHost *\n  Port 100\n",
        ["gpu", "grid", "x"],
    ),
    "patterns": ("Host *.lab !bad.lab\n  User lab\nHost n?\n  User n\n", ["a.lab", "bad.lab", "n1", "n12"]),
    "several names": ("Host one two three\n  HostName 10.1.1.1\n", ["one", "three", "four"]),
    "equals and case": ("host=gpu\nhostname = gpu.example.org\n  USER=ada\n\tPort\t=\t2200\n", ["gpu"]),
    "comments": ("# Host gpu\nHost gpu # not a comment in old versions\n  User ada\n\n  # User eve\n", ["other"]),
    "tokens in HostName": ("Host n-*\n  HostName %h.cluster.example.org\n", ["n-1", "n-22"]),
    "jump": ("Host gpu\n  ProxyJump ada@door:2201\nHost door\n  HostName 10.0.0.1\n", ["gpu", "door"]),
    "jump chain": ("Host gpu\n  ProxyJump one,two:22,three\n", ["gpu"]),
    "jump none": ("Host gpu\n  ProxyJump none\nHost *\n  ProxyJump door\n", ["gpu", "other"]),
    "proxy command": ("Host gpu\n  HostName 10.0.0.9\n  Port 22\n  ProxyCommand nc -w 3 %h %p\n", ["gpu"]),
    "proxy none": ("Host gpu\n  ProxyCommand none\nHost *\n  ProxyCommand nc %h %p\n", ["gpu"]),
    "alias of the key": ("Host gpu\n  HostKeyAlias the-gpu\n  Port 2200\n", ["gpu"]),
    "match host": ("Host gpu\n  HostName 10.9.9.9\nMatch host 10.9.9.9\n  User matched\n", ["gpu", "10.9.9.9", "x"]),
    "match originalhost": ("Match originalhost gpu\n  User matched\nHost *\n  User all\n", ["gpu", "other"]),
    "match user": ("Host gpu\n  User ada\nMatch user ada\n  Port 77\n", ["gpu", "ada@other", "other"]),
    "match negated": ("Match !host gpu\n  User not-gpu\n", ["gpu", "other"]),
    "identities": ("Host gpu\n  IdentityFile /k/one\n  IdentityFile /k/two\n  IdentitiesOnly yes\n", ["gpu"]),
    "identities add up": ("Host gpu\n  IdentityFile /k/one\nHost *\n  IdentityFile /k/two\n", ["gpu", "x"]),
    "identity with a space": ('Host gpu\n  IdentityFile "/k/my key"\n', ["gpu"]),
    "identity with tokens": ("Host gpu\n  HostName h.org\n  User ada\n  IdentityFile /k/%h-%r\n", ["gpu"]),
    "known hosts": ("Host gpu\n  UserKnownHostsFile /h/one /h/two\n  GlobalKnownHostsFile /dev/null\n", ["gpu"]),
    "known hosts with a space": ('Host gpu\n  UserKnownHostsFile "/h/my hosts" /h/two\n', ["gpu"]),
}
CASES = [pytest.param(text, name, id=f"{label}: {name}") for label, (text, names) in CONFIGS.items() for name in names]


@pytest.fixture
def ssh() -> str:
    found = shutil.which("ssh")
    if found is None:
        pytest.fail("these tests compare with OpenSSH's ssh: install openssh-client")
    return found


def both(ssh: str, name: str, file: Path) -> tuple[SshTarget, SshTarget]:
    """(by ssh -G, by our own reader)"""
    user, host, port = ssh_config.split_destination(name)
    asked = ssh_config._ask_ssh(ssh, user, host, port, str(file))
    read = ssh_config._read_config(user, host, port, str(file))
    return ssh_config._target(name, host, asked), ssh_config._target(name, host, read)


def comparable(target: SshTarget) -> SshTarget:
    """What a config says: default key files differ between versions, and ssh takes its home from the user database."""
    is_default = not any(path.startswith("/k/") for path in target.identity_files)
    known = tuple(path for path in target.known_hosts_files if not path.endswith((".ssh/known_hosts", "known_hosts2")))
    return dataclasses.replace(
        target, identity_files=() if is_default else target.identity_files, known_hosts_files=known
    )


@pytest.mark.parametrize(("text", "name"), CASES)
def test_both_readers_agree(ssh: str, tmp_path: Path, text: str, name: str) -> None:
    file = tmp_path / "config"
    file.write_text(text)
    asked, read = both(ssh, name, file)
    assert comparable(read) == comparable(asked)


def test_included_files_count_where_they_are_named(ssh: str, tmp_path: Path) -> None:
    (tmp_path / "a.conf").write_text("Host gpu\n  User from-a\nMatch all\n  ServerAliveInterval 5\n")
    (tmp_path / "b.conf").write_text("Host gpu\n  User from-b\n  Port 2201\n")
    (tmp_path / "in-block.conf").write_text("  HostKeyAlias only-for-door\n")
    file = tmp_path / "config"
    file.write_text(
        f"Include {tmp_path}/[ab].conf {tmp_path}/missing.conf\n"
        f"Host door\n  Include {tmp_path}/in-block.conf\n  Port 2222\nHost *\n  User last\n"
    )
    for name in ("gpu", "door", "other"):
        asked, read = both(ssh, name, file)
        assert comparable(read) == comparable(asked), name
    assert ssh_config.resolve("gpu", str(file)).user == "from-a"
    assert ssh_config.resolve("door", str(file)).host_key_alias == "only-for-door"
    assert ssh_config.resolve("gpu", str(file)).host_key_alias is None


def test_a_relative_include_is_below_the_users_ssh_folder(ssh: str, tmp_path: Path) -> None:
    """ssh_config(5): relative names are looked for in ~/.ssh, wherever the including file lies."""
    beside = tmp_path / "beside.conf"
    beside.write_text("Host gpu\n  User from-beside\n")
    file = tmp_path / "config"
    file.write_text("Include beside.conf\nHost gpu\n  User own\n")
    asked, read = both(ssh, "gpu", file)
    assert (asked.user, read.user) == ("own", "own")


def test_match_exec_is_asked_and_takes_nothing_of_our_input(tmp_path: Path) -> None:
    """In a process of its own: invoke, which runs the command, leaves pipes to the garbage collector."""
    file = tmp_path / "config"
    file.write_text('Match exec "true"\n  User yes\nMatch exec "false"\n  Port 9\n')
    code = (
        "import sys; from remote import ssh_config as c; "
        "found = c._target('gpu', 'gpu', c._read_config(None, 'gpu', None, sys.argv[1])); "
        "print(found.user, found.port, sys.stdin.read())"
    )
    told = subprocess.run(
        [sys.executable, "-c", code, str(file)],
        input="our input",
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        cwd=Path(__file__).resolve().parents[2],
    )
    assert (told.stdout, told.returncode) == ("yes 22 our input\n", 0), told.stderr
    assert (ssh_config.resolve("gpu", str(file)).user, ssh_config.resolve("gpu", str(file)).port) == ("yes", 22)


def test_a_circle_of_includes_ends(tmp_path: Path) -> None:
    file = tmp_path / "config"
    file.write_text(f"Include {file}\nHost gpu\n  User ada\n")
    assert "  User ada" in ssh_config.included_lines(str(file))


def test_the_known_hosts_name_is_what_ssh_looks_for() -> None:
    assert SshTarget("a", "h", 22, "u").host_key_name == "h"
    assert SshTarget("a", "h", 2222, "u").host_key_name == "[h]:2222"
    assert SshTarget("a", "h", 2222, "u", host_key_alias="k").host_key_name == "k"


def test_a_known_hosts_file_with_a_space_in_its_name_is_one_file(tmp_path: Path) -> None:
    """As below `Application Support` on macOS; `ssh -G` prints it without its quotes."""
    folder = tmp_path / "Application Support"
    folder.mkdir()
    (folder / "known_hosts").touch()
    file = tmp_path / "config"
    file.write_text(f'Host gpu\n  UserKnownHostsFile "{folder}/known_hosts"\n')
    assert str(folder / "known_hosts") in ssh_config.resolve("gpu", str(file)).known_hosts_files


def test_a_tilde_is_the_home_folder(tmp_path: Path) -> None:
    file = tmp_path / "config"
    file.write_text("Host gpu\n  IdentityFile ~/.ssh/special\n")
    assert ssh_config.resolve("gpu", str(file)).identity_files == (os.path.expanduser("~/.ssh/special"),)


# --- destinations ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("gpu", (None, "gpu", None)),
        ("ada@gpu", ("ada", "gpu", None)),
        ("ada@gpu:2222", ("ada", "gpu", 2222)),
        ("gpu:22", (None, "gpu", 22)),
        ("[::1]:2222", (None, "::1", 2222)),
        ("::1", (None, "::1", None)),
        ("ada@example.org@gpu", ("ada@example.org", "gpu", None)),
    ],
)
def test_a_destination_is_taken_apart(text: str, parts: tuple[str | None, str, int | None]) -> None:
    assert ssh_config.split_destination(text) == parts


@pytest.mark.parametrize("text", ["", "@", "ada@", "-oProxyCommand=touch pwned", "ada@-x", "gpu:port", "[::1]:x"])
def test_what_is_no_destination_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError):
        ssh_config.split_destination(text)


@given(st.text(max_size=20))
def test_no_destination_becomes_an_option_of_ssh(text: str) -> None:
    try:
        _, host, _ = ssh_config.split_destination(text)
    except UsageError:
        return
    assert host
    assert not host.startswith("-")


def test_a_broken_config_is_a_usage_error(tmp_path: Path) -> None:
    file = tmp_path / "config"
    file.write_text("Host gpu\n  NoSuchOption yes\n")
    with pytest.raises(UsageError) as refused:
        ssh_config.resolve("gpu", str(file))
    assert "ssh -G" in refused.value.remedy
