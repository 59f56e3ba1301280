"""From a name to where and how to connect, as `ssh` itself would: `ssh -G` where OpenSSH is installed, else paramiko.

`ssh -G` covers aliases, Include, Match, ProxyJump, ProxyCommand, IdentityFile and HostKeyAlias exactly as the user's own
`ssh` does. paramiko's reader knows no Include, so the fallback puts included text in place first.
"""

from __future__ import annotations

import dataclasses
import getpass
import glob
import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable

from manifests import commands
from manifests.errors import UsageError

DEFAULT_IDENTITIES = ("~/.ssh/id_ed25519", "~/.ssh/id_ecdsa", "~/.ssh/id_rsa", "~/.ssh/id_ed25519_sk")
_INCLUDE_DEPTH = 16


@dataclasses.dataclass(frozen=True)
class SshTarget:
    """One resolved hop. `host_key_name` is the name under which its key stands in known_hosts."""

    alias: str
    hostname: str
    port: int
    user: str
    identity_files: tuple[str, ...] = ()
    identities_only: bool = False
    proxy_command: str | None = None
    proxy_jump: str | None = None
    host_key_alias: str | None = None
    known_hosts_files: tuple[str, ...] = ()
    identity_agent: str | None = None
    has_no_agent: bool = False

    @property
    def host_key_name(self) -> str:
        """The known_hosts name: HostKeyAlias, or the host name, with the port in brackets when it is not 22."""
        if self.host_key_alias:
            return self.host_key_alias
        return self.hostname if self.port == 22 else f"[{self.hostname}]:{self.port}"


def split_destination(destination: str) -> tuple[str | None, str, int | None]:
    """(user, host, port) of `[user@]host[:port]`; an IPv6 address goes in brackets. Raises UsageError."""
    user, at, rest = destination.rpartition("@")
    host, port = rest, ""
    if rest.startswith("["):
        host, _, port = rest[1:].partition("]")
        port = port.removeprefix(":")
    elif rest.count(":") == 1:
        host, _, port = rest.partition(":")
    if not host or host.startswith("-") or (port and not port.isdigit()):
        raise UsageError(
            f"{destination!r} is no SSH destination", remedy="use an alias of your ssh_config, or user@host:port"
        )
    return (user if at else None), host, int(port) if port else None


def resolve(destination: str, config_file: str | None = None) -> SshTarget:
    """How `ssh destination` would connect. `config_file` replaces the user's own ~/.ssh/config. Raises UsageError."""
    user, host, port = split_destination(destination)
    if config_file and not os.path.isfile(config_file):
        raise UsageError(
            f"the ssh_config file {config_file} does not exist", remedy="mend host.ssh_config or HEMMA_SSH_CONFIG"
        )
    ssh = shutil.which("ssh")
    options = _ask_ssh(ssh, user, host, port, config_file) if ssh else _read_config(user, host, port, config_file)
    return _target(destination, host, options)


def config_files(config_file: str | None) -> list[str]:
    """The top-level files whose change must be noticed by a warm connection."""
    return [config_file] if config_file else [os.path.expanduser("~/.ssh/config"), "/etc/ssh/ssh_config"]


def _ask_ssh(ssh: str, user: str | None, host: str, port: int | None, config_file: str | None) -> dict[str, list[str]]:
    command = [ssh, "-G"]
    own, of_all = os.path.expanduser("~/.ssh/config"), "/etc/ssh/ssh_config"
    if config_file:
        command += ["-F", config_file]
    elif _has_other_home():  # ssh looks the home folder up by user id; everything of ours lies below $HOME
        command += ["-F", next((path for path in (own, of_all) if os.path.isfile(path)), "none")]
    if user:
        command += ["-l", user]
    if port:
        command += ["-p", str(port)]
    done = subprocess.run([*command, "--", host], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1:] or ["ssh -G failed"]
        raise UsageError(
            f"ssh cannot read its configuration: {reason[0]}", remedy=commands.command("try: ssh -G {}", host)
        )
    options: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        name, _, value = line.partition(" ")
        options.setdefault(name.lower(), []).append(value)
    return options


def _has_other_home() -> bool:
    if sys.platform == "win32":
        return False
    import pwd

    return os.path.expanduser("~") != pwd.getpwuid(os.getuid()).pw_dir


def _read_config(user: str | None, host: str, port: int | None, config_file: str | None) -> dict[str, list[str]]:
    import paramiko

    lines = ["Host *", f"User {user}"] if user else []  # first, so that `Match user` sees it
    lines += [line for name in config_files(config_file) for line in included_lines(name)]
    with open(os.devnull, encoding="ascii") as nothing:
        ours, sys.stdin = sys.stdin, nothing  # `Match exec` must not read the input of the command to be run
        try:
            found = paramiko.SSHConfig.from_text("\n".join(lines)).lookup(host)
        finally:
            sys.stdin = ours
    options = {name.lower(): list(value) if isinstance(value, list) else [str(value)] for name, value in found.items()}
    if user:
        options["user"] = [user]
    if port:
        options["port"] = [str(port)]
    return options


def included_lines(path: str, depth: int = 0) -> list[str]:
    """The lines of an ssh_config with every Include replaced by the files it names.

    After an included file the enclosing Host or Match line is repeated, so that what follows still belongs to it.
    """
    if depth > _INCLUDE_DEPTH or not os.path.isfile(path):
        return []
    found: list[str] = []
    block = "Host *"
    # As ssh_config(5) has it: a user's file may include from ~/.ssh, wherever it lies itself; the system's from /etc/ssh.
    base = "/etc/ssh" if path.startswith("/etc/ssh/") else os.path.expanduser("~/.ssh")
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        for raw in file:
            keyword, _, rest = raw.strip().replace("=", " ", 1).partition(" ")
            if keyword.lower() in ("host", "match"):
                block = raw.strip()
            if keyword.lower() != "include":
                found.append(raw.rstrip("\n"))
                continue
            for pattern in shlex.split(rest):
                for name in sorted(glob.glob(os.path.join(base, os.path.expanduser(pattern)))):
                    found += [*included_lines(name, depth + 1), block]
    return found


def _target(alias: str, host: str, options: dict[str, list[str]]) -> SshTarget:
    def one(name: str) -> str | None:
        value = options.get(name, [""])[0].strip()
        return value if value and value.lower() != "none" else None

    hostname, user, port = one("hostname") or host, one("user") or getpass.getuser(), int(one("port") or 22)

    def expanded(text: str) -> str:
        return os.path.expanduser(_expand(text.strip('"'), hostname, port, user, host))

    def files(name: str, default: str) -> tuple[str, ...]:
        return tuple(_paths(expanded(word) for word in (one(name) or default).split(" ")))

    identities = [expanded(path) for path in options.get("identityfile", [])]
    known = _in_our_home(files("userknownhostsfile", "~/.ssh/known_hosts ~/.ssh/known_hosts2"))
    known += files("globalknownhostsfile", "/etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2")
    command = one("proxycommand")
    return SshTarget(
        alias=alias,
        hostname=hostname,
        port=port,
        user=user,
        identity_files=tuple(identities or [os.path.expanduser(path) for path in DEFAULT_IDENTITIES]),
        identities_only=one("identitiesonly") == "yes",
        proxy_command=_expand(command, hostname, port, user, host) if command else None,
        proxy_jump=one("proxyjump"),
        host_key_alias=one("hostkeyalias"),
        known_hosts_files=known,
        identity_agent=one("identityagent"),
        has_no_agent=options.get("identityagent", [""])[0].strip().lower() == "none",
    )


def _in_our_home(known: tuple[str, ...]) -> tuple[str, ...]:
    """The default known_hosts of `ssh -G`, which lie in the home of the user id, looked for where the rest is: in $HOME."""
    if not _has_other_home():
        return known
    import pwd

    theirs = os.path.join(pwd.getpwuid(os.getuid()).pw_dir, ".ssh")
    ours = os.path.expanduser("~/.ssh")
    names = ("known_hosts", "known_hosts2")
    moved = {os.path.join(theirs, name): os.path.join(ours, name) for name in names}
    return tuple(moved.get(path, path) for path in known)


def _paths(words: Iterable[str]) -> list[str]:
    """Paths from a line that was split at its spaces: `ssh -G` prints a path with a space in it without quotes."""
    rest, found = list(words), list[str]()
    while rest:
        length = next((n for n in range(len(rest), 1, -1) if os.path.exists(" ".join(rest[:n]))), 1)
        found.append(" ".join(rest[:length]))
        del rest[:length]
    return found


def _expand(command: str, hostname: str, port: int, user: str, host: str) -> str:
    """The tokens of ssh_config(5) that can be known before there is a connection."""
    values = {"%%": "%", "%h": hostname, "%p": str(port), "%r": user, "%n": host, "%u": getpass.getuser()}
    values |= {"%d": os.path.expanduser("~"), "%L": platform.node().partition(".")[0], "%l": platform.node()}
    values |= {"%i": str(os.getuid())} if hasattr(os, "getuid") else {}
    pieces, rest = [], command
    while "%" in rest:
        before, _, after = rest.partition("%")
        pieces += [before, values.get("%" + after[:1], "%" + after[:1])]
        rest = after[1:]
    return "".join([*pieces, rest])
