"""`hemma host`: the machines Hemma may work on."""

from __future__ import annotations

import dataclasses
import os
from typing import Annotated

import typer

from controller.cli import known
from controller.flows import host as flow
from controller.flows import hosts_file
from controller.flows.host_paths import on_host
from controller.reports import console
from controller.reports.console import Table
from controller.settings import demand_trust, explain, read_files
from lanes.doctor import Finding, is_fit, summary
from manifests.errors import UsageError
from manifests.settings import HostSettings

app = typer.Typer(help="The machines Hemma may work on.", no_args_is_help=True)

Name = Annotated[str | None, typer.Argument(help="A host of your config.toml; without it, the one of this folder.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(parent: typer.Typer) -> None:
    """Add these verbs to the command line."""
    parent.add_typer(app, name="host")


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="What you call it.")],
    ssh: Annotated[str, typer.Argument(help="ssh alias or [user@]host[:port].")],
    root: Annotated[str | None, typer.Option(help="The repository's path on the host.")] = None,
    python: Annotated[str | None, typer.Option(help="Python >= 3.9 on the host.")] = None,
    ssh_config: Annotated[str | None, typer.Option(help="An ssh_config file instead of ~/.ssh/config.")] = None,
    default: Annotated[bool, typer.Option("--default", help="The host of every folder that names none.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Change what is there already.")] = False,
) -> None:
    """Add a host to your config.toml.

    Example: hemma host add gpu gpu-box --root '~/work/repo' --default
    """
    path = os.path.abspath(os.path.expanduser(ssh_config)) if ssh_config else None
    given = {"ssh": ssh, "root": on_host(root), "python": python, "ssh_config": path}
    fields = {key: value for key, value in given.items() if value is not None}
    _say_changes(hosts_file.add(hosts_file.config_path(), name, fields, default=default, force=force))
    console.out().print(f"next: hemma host check {name}", style="dim", markup=False)


@app.command("list")
def list_hosts(as_json: Json = False) -> None:
    """List the hosts of your config.toml; * marks the default.

    Example: hemma host list
    """
    rows = hosts_file.rows(hosts_file.read(hosts_file.config_path())[1])
    if as_json:
        console.show_json(rows)
        return
    if not rows:
        console.err().print("no hosts yet: hemma host add NAME SSH")
        return
    table = Table("", "name", "ssh", "root", box=None)
    for row in rows:
        cells = ["*" if row["default"] else "", row["name"], row["ssh"], row["root"] or "-"]
        table.add_row(*(console.plain(str(cell)) for cell in cells))
    console.show_table(table)


@app.command()
def remove(name: Annotated[str, typer.Argument(help="A host of your config.toml.")]) -> None:
    """Take a host out of your config.toml; nothing changes on the host, and what runs there goes on.

    Example: hemma host remove gpu
    """
    path = hosts_file.config_path()
    changes = hosts_file.remove(path, name)
    console.line(console.out(), "ok", f"{path}: changed")
    for change in changes:
        console.out().print(f"  - {change}", markup=False)
    left = hosts_file.read(path)[1]
    if not left.hosts:
        console.do(console.err(), "hemma host add NAME SSH   (no host is left)")
    elif left.default_host is None:
        console.do(console.err(), "hemma host add NAME SSH --default   (no host is the default now; -H NAME names one)")


@app.command()
def check(name: Name = None, as_json: Json = False) -> None:
    """Look at everything a host needs, and say for each thing wrong how to mend it.

    Example: hemma host check gpu

    Exit codes: 0 fit (warnings do not count), 1 something failed, 2 no host is configured.
    """
    host = _host(name)
    with console.err().status(console.plain(f"asking {host.name} ...")):
        findings = flow.check(host)
    if as_json:
        console.show_json([dataclasses.asdict(finding) for finding in findings])
    else:
        _show(host, findings)
    _say_known(findings)
    raise typer.Exit(0 if is_fit(findings) else 1)


@app.command()
def accept(
    words: Annotated[list[str], typer.Argument(metavar="[NAME] FINGERPRINT", help="As the refusal showed it.")],
) -> None:
    """Put a host's key on your list of known hosts, if it has this fingerprint.

    Example: hemma host accept gpu SHA256:...
    """
    if len(words) not in (1, 2):
        raise UsageError("one name and one fingerprint are needed", remedy="hemma host accept NAME SHA256:...")
    host = _host(words[0] if len(words) == 2 else None)
    console.line(console.out(), "ok", flow.accept(host, words[-1]))


@app.command()
def up(
    name: Name = None,
    loopback: Annotated[bool, typer.Option("--loopback", help="A host on this machine, made when missing.")] = False,
) -> None:
    """Open the connection to a host, so that the first command is fast; or start a loopback host.

    Example: hemma host up --loopback
    """
    if loopback or name in flow.loopback_names():
        name = name or "loopback"
        fields = flow.start_loopback(name)
        _say_changes(hosts_file.add(hosts_file.config_path(), name, fields, default=False, force=True))
    console.line(console.out(), "ok", flow.up(_host(name)))


@app.command()
def down(
    name: Name = None,
    loopback: Annotated[bool, typer.Option("--loopback", help="Stop the loopback host.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Stop all loopback hosts too.")] = False,
) -> None:
    """Close the warm connections, and stop a loopback host; runs on hosts go on.

    Example: hemma host down --loopback
    """
    known = flow.loopback_names()
    names = known if everything else [name or "loopback"] if loopback or name in known else []
    out = console.out()
    for each in names:
        console.line(out, "ok", f"{each}: {'stopped' if flow.stop_loopback(each) else 'was not running'}")
    console.line(out, "ok", "connections closed" if flow.disconnect() else "no connection was open")


def _host(name: str | None) -> HostSettings:
    environ = dict(os.environ)
    if name is not None:
        files = read_files(os.getcwd(), environ)
        present = explain(files).settings.host if _names_a_host(files.project.host, files.user.default_host) else None
        if present and name in (present.name, present.ssh):
            demand_trust(files)
            return present
        environ["HEMMA_HOST"] = hosts_file.named(files.user, name)
    files = read_files(os.getcwd(), environ)
    demand_trust(files)
    return explain(files).settings.host


def _names_a_host(*layers: str | None) -> bool:
    return any(layers) or bool(os.environ.get("HEMMA_HOST"))


def _say_changes(changes: list[str]) -> None:
    out = console.out()
    console.line(out, "ok", f"{hosts_file.config_path()}: {'changed' if changes else 'nothing to change'}")
    for change in changes:
        out.print(f"  + {change}")


def _say_known(findings: list[Finding]) -> None:
    """Name the entries of the runbooks that know what failed (S17-R04)."""
    bad = "\n".join(finding.fact for finding in findings if finding.level == "fail")
    if bad:
        known.say(bad)


def _show(host: HostSettings, findings: list[Finding]) -> None:
    table = Table("", "what", "fact", box=None, title=f"host {console.printable(host.name)}", title_justify="left")
    for finding in findings:
        fact = console.plain(finding.fact)
        if finding.mend:
            fact.append_text(console.block("\ndo  ", "bold")).append_text(console.plain(finding.mend))
        table.add_row(console.word(finding.level), console.plain(finding.name), fact)
    out = console.out()
    console.show_table(table)
    console.line(out, "ok" if is_fit(findings) else "failed", summary(findings))
