"""What `hemma host` does with a host: look at it, accept its key, bring it up and down."""

from __future__ import annotations

import os
import time
from typing import Any

from lanes.doctor import Finding, Problem, Trip, diagnose
from manifests.commands import command
from manifests.errors import HemmaError, HostKeyChanged, UsageError
from manifests.places import state_dir
from manifests.settings import HostSettings


def check(host: HostSettings) -> list[Finding]:
    """Everything that can be wrong with `host`, looked at in one trip; an unreachable host is a finding, no exception."""
    return diagnose(visit(host))


def visit(host: HostSettings) -> Trip:
    """One trip: connect as `hemma run` does, ask for all facts, note this machine's time before and after."""
    address = host.ssh
    try:
        address = _address(host)
        # Connect first, so that only the question itself lies between the two times.
        sent_s, facts = _ask(host)
        return Trip(host.ssh, address, probe=facts, sent_s=sent_s, received_s=time.time())
    except HemmaError as error:
        return Trip(host.ssh, address, problem=Problem(error.code, error.message, error.remedy))


def accept(host: HostSettings, fingerprint: str) -> str:
    """Put the host's key on the list of known hosts if it has this fingerprint; returns what was done, in words.

    Raises HostKeyChanged when the host shows another key than the one that was meant.
    """
    from remote import connection, host_keys

    if not fingerprint.startswith("SHA256:"):
        raise UsageError(
            f"{fingerprint!r} is no fingerprint", remedy=command("hemma host accept {} SHA256:...", host.name)
        )
    shown = connection.unknown_key(host.ssh, host.ssh_config, host.connect_timeout_s)
    if shown is None:
        return f"{host.name}: its key is known already"
    target, name, key = shown
    found = host_keys.fingerprint(key)
    if found != fingerprint:
        raise HostKeyChanged(
            f"{name} shows {found}, not {fingerprint}", remedy="ask the host's administrator which fingerprint is right"
        )
    path = target.known_hosts_files[0]
    host_keys.add(path, name, key)
    return f"{name} {found} added to {path}"


def up(host: HostSettings) -> str:
    """Open the warm connection to `host` now rather than at the next command; returns who answered, in words."""
    _, facts = _ask(host)
    who, python = facts.get("host", {}), facts.get("python", {})
    return f"{host.name}: {who.get('user', '?')}@{who.get('hostname', '?')}, python {python.get('version', '?')}"


def disconnect() -> bool:
    """Let the broker leave, and all warm connections with it; False when none ran. Runs on hosts go on."""
    from remote.host import broker_request

    return broker_request("broker-stop") is not None


def loopback_names() -> list[str]:
    """The loopback hosts that were ever started under this state folder."""
    folder = os.path.join(state_dir(), "loopback")
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir()) if os.path.isdir(folder) else []


def start_loopback(name: str) -> dict[str, Any]:
    """Start the loopback host `name`, or find it running; returns its settings, those of a [hosts.NAME] table.

    Its runs are kept beside its keys, apart from those of a real host that this machine may be.
    """
    from remote import loopback

    host = loopback.start(name, state_dir())
    return {
        "ssh": host.alias,
        "ssh_config": host.ssh_config,
        "python": host.python,
        "state_dir": os.path.join(host.folder, "state"),
    }


def stop_loopback(name: str) -> bool:
    """Stop the loopback host `name`; False when it did not run."""
    from remote import loopback

    return loopback.stop(name, state_dir())


def _ask(host: HostSettings) -> tuple[float, dict[str, Any]]:
    from remote.host import Host

    connected = Host(host.as_dict())
    connected.request("list", most=0)
    sent_s = time.time()
    return sent_s, connected.request("probe", client_time_s=sent_s)


def _address(host: HostSettings) -> str:
    from remote import ssh_config

    target = ssh_config.resolve(host.ssh, host.ssh_config)
    return f"{target.user}@{target.hostname}:{target.port}"
