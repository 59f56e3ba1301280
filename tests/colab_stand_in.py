"""A program in the place of Google's `colab`: it takes what the recorded contract allows, and nothing else.

It is told by STAND_IN, a folder: `plan.json` says what goes wrong, `state.json` holds its sessions, `calls.jsonl` what it
was asked, `machine` is the disk of the machine. Programs that it is given are run for real, notebooks if `plan.json` says
`really`; else what a run would write to Drive stands there.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

CONTRACT = Path(__file__).with_name("cases") / "colab_cli" / "contract.yaml"


def parse(words: list[str], contract: dict[str, Any]) -> tuple[str, dict[str, str], list[str]]:
    """Command, options, arguments. Ends with 2 for anything that the contract does not know, as the program does."""
    rest = list(words)
    while rest and rest[0].startswith("-"):
        take_option(rest, contract["global_options"], {})
    command = rest.pop(0) if rest else ""
    if command not in contract["commands"]:
        refuse(f"No such command '{command}'.")
    known, options, arguments = contract["commands"][command], dict[str, str](), list[str]()
    while rest:
        if rest[0].startswith("-"):
            take_option(rest, known["options"], options)
        else:
            arguments.append(rest.pop(0))
    if len(arguments) > len(known["arguments"]):
        refuse(f"Got unexpected extra argument ({arguments[-1]})")
    return command, options, arguments


def take_option(rest: list[str], known: dict[str, Any], options: dict[str, str]) -> None:
    """Take one option with its value from the front of `rest`."""
    name = rest.pop(0)
    if name not in known:
        refuse(f"No such option: {name}")
    kind = known[name]
    if kind == "flag":
        return
    if not rest:
        refuse(f"Option '{name}' requires an argument.")
    value = rest.pop(0)
    if kind == "number" and not re.fullmatch(r"\d+(\.\d+)?", value):
        refuse(f"Invalid value for '{name}': '{value}' is not a valid float.")
    if isinstance(kind, list) and value not in kind:
        refuse(f"Invalid value for '{name}': '{value}'.")
    options[name.lstrip("-")[:1] if name in ("--session", "--file") else name.lstrip("-")] = value


def refuse(text: str) -> None:
    """End as a program made with Typer does."""
    print(f"Error: {text}", file=sys.stderr)
    sys.exit(2)


class StandIn:
    """The program's answers, with its sessions on disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        plan, state = folder / "plan.json", folder / "state.json"
        self.plan: dict[str, Any] = json.loads(plan.read_text()) if plan.exists() else {}
        self.sessions: dict[str, str] = json.loads(state.read_text()) if state.exists() else {}

    def answer(self, command: str, options: dict[str, str], arguments: list[str], contract: dict[str, Any]) -> int:
        """Do one command; its exit code."""
        fault = self.plan.get(command, {})
        if "hang_s" in fault:
            time.sleep(fault["hang_s"])
        if "exit" in fault and not fault.get("after"):
            print(fault.get("say", "[colab] it failed"))
            return fault["exit"]
        if (
            command in ("drivemount", "exec", "upload", "download", "restart-kernel")
            and options.get("s", "") not in self.sessions
        ):
            print(f"[colab] Session '{options.get('s', '')}' not found.")
            return 1
        before = dict(self.sessions)
        code = int(getattr(self, "do_" + command.replace("-", "_"))(options, arguments, contract) or 0)
        if self.sessions != before:
            (self.folder / "state.json").write_text(json.dumps(self.sessions))
        return fault.get("exit", code)

    def do_new(self, options: dict[str, str], arguments: list[str], contract: dict[str, Any]) -> None:
        """A session; a GPU that is not known becomes an A100, as there."""
        gpu = options.get("gpu", "")
        hardware = (gpu if gpu in contract["behaviour"]["gpus"] else "A100") if gpu else "CPU"
        self.sessions[options["s"]] = hardware
        print(f"[colab] Creating session '{options['s']}'...\n[colab] Session READY.")

    def do_sessions(self, options: dict[str, str], arguments: list[str], contract: dict[str, Any]) -> None:
        """The list."""
        for known, hardware in {**self.sessions, **self.plan.get("foreign", {})}.items():
            # `?NAME`: one that runs, and whose name was forgotten here.
            name, shown = known.lstrip("?"), "?" if known.startswith("?") else known
            print(
                f"[{shown}] gpu-{name}-s-1 | Hardware: {hardware} | Variant: {'GPU' if hardware != 'CPU' else 'DEFAULT'}"
            )
        if not self.sessions:
            print("[colab] No active sessions found on server.")

    def do_stop(self, options: dict[str, str], arguments: list[str], contract: dict[str, Any]) -> None:
        """Stop; an unknown one is no error, and a plan may make it not work a few times."""
        left = self.plan.get("stop_fails", 0)
        if left:
            (self.folder / "plan.json").write_text(json.dumps({**self.plan, "stop_fails": left - 1}))
            print("[colab] Stopping...")
        elif self.sessions.pop(options["s"], None) is None:
            print(f"[colab] Session '{options['s']}' not found.")

    def do_drivemount(self, options: dict[str, str], arguments: list[str], contract: dict[str, Any]) -> None:
        """Mounted; or it wants a consent, on the terminal; or the kernel said no, which is no failure of the program."""
        plan = self.plan.get("drivemount", {})
        print(f"[colab] Mounting Google Drive to '{arguments[0]}' on {options['s']}...", flush=True)
        if "consent" in plan:
            print(f"\n[colab] REQUIRED: Google Drive Authorization needed.\nPlease visit:\n\n{plan['consent']}\n")
            print("Press Enter after you have granted access... ", end="", flush=True)
            try:
                with open("/dev/tty") as tty:
                    (self.folder / "asked-on-terminal").touch()
                    tty.readline()
            except OSError:
                time.sleep(600)
        elif "says" in plan:
            print(plan["says"], file=sys.stderr)
        else:
            print(f"Mounted at {arguments[0]}")

    def do_upload(self, options: dict[str, str], arguments: list[str], contract: dict[str, Any]) -> int:
        """One file, to a folder that is there."""
        return self.copy(Path(arguments[0]), self.on_machine(arguments[1]), "Upload")

    def do_download(self, options: dict[str, str], arguments: list[str], contract: dict[str, Any]) -> int:
        """One file; a folder is none."""
        return self.copy(self.on_machine(arguments[0]), Path(arguments[1]), "Download")

    def do_restart_kernel(self, options: dict[str, str], arguments: list[str], contract: dict[str, Any]) -> None:
        """What was set in the kernel is gone."""
        (self.folder / "kernel.json").unlink(missing_ok=True)

    def copy(self, source: Path, target: Path, what: str) -> int:
        """Copy a file, or say what is wrong as the program does."""
        if not source.is_file() or not target.parent.is_dir():
            print(f"[colab] {what} failed: File or directory not found: {source}")
            return 1
        target.write_bytes(source.read_bytes())
        return 0

    def on_machine(self, path: str) -> Path:
        """A path of the machine on this disk."""
        (self.folder / "machine/content").mkdir(parents=True, exist_ok=True)
        return self.folder / "machine" / path.strip("/")

    def do_exec(self, options: dict[str, str], arguments: list[str], contract: dict[str, Any]) -> int:
        """A program, or a notebook. A cell that fails is no failure of ours."""
        if options["f"].endswith(".py"):
            return self.run_program(Path(options["f"]).read_text())
        print(f"[colab] Parsing notebook '{options['f']}'...", flush=True)
        self.run_plan()
        if self.plan.get("lost"):  # what another process stopped meanwhile stays stopped
            print(f"[colab] Session '{options['s']}' appears to be lost (404/401). Cleaning up.")
            hardware = self.sessions.pop(options["s"], None)
            if self.plan["lost"] == "its name only" and hardware:
                self.sessions["?" + options["s"]] = hardware
            return 1
        if float(options.get("timeout") or contract["behaviour"]["exec_timeout_s"]) <= 30 and "really" not in self.plan:
            print("TimeoutError: a cell took longer than --timeout", file=sys.stderr)
            return 1
        self.run_notebook(Path(options["f"]))
        return 0

    def run_plan(self) -> None:
        """Write what the run would write."""
        for step in self.plan.get("run", []):
            time.sleep(step.get("after_s", 0))
            self.wait_for_looks(step.get("looks", 0))
            for path, text in step["files"].items():
                target = Path(path)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(text)

    def wait_for_looks(self, number: int) -> None:
        """Wait until something was fetched from the machine so many times more, a minute at most."""
        calls = self.folder / "calls.jsonl"
        wanted = calls.read_text().count('["download"') + number
        deadline = time.monotonic() + 60
        while calls.read_text().count('["download"') < wanted and time.monotonic() < deadline:
            time.sleep(0.05)

    def run_notebook(self, path: Path) -> None:
        """The notebook with outputs beside itself."""
        notebook = json.loads(path.read_text())
        if "really" in self.plan:
            notebook = executed(
                path, {**os.environ, **self.kernel(), **self.plan["really"]}, self.on_machine("content")
            )
        error = self.plan.get("cell_error")
        if error:
            output = {"output_type": "error", "ename": error[0], "evalue": error[1], "traceback": []}
            notebook["cells"].append({"cell_type": "code", "source": "x", "outputs": [output], "metadata": {}})
        Path(os.path.splitext(path)[0] + "_output.ipynb").write_text(json.dumps(notebook))

    def kernel(self) -> dict[str, str]:
        """What earlier programs set in the kernel's environment."""
        path = self.folder / "kernel.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def run_program(self, text: str) -> int:
        """Run a program in a kernel of its own, with the machine's disk for its own and the environment of the last one."""
        disk = str(self.on_machine("content"))
        keep = "import os as _os, json as _json; print('KERNEL', _json.dumps(dict(_os.environ)))"
        code = f"{text}\n{keep}".replace("/content", disk)
        environ = {**os.environ, **self.kernel()}
        told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environ, check=False)
        said, _, after = told.stdout.partition("KERNEL ")
        changed = {key: value for key, value in json.loads(after or "{}").items() if os.environ.get(key) != value}
        (self.folder / "kernel.json").write_text(json.dumps(changed))
        print(said.replace(disk, "/content") + told.stderr, end="")
        return 0


def executed(path: Path, environ: dict[str, str], folder: Path) -> dict[str, Any]:
    """The notebook, its cells run one after the other whatever each says, as the program does."""
    import nbformat
    from nbclient import NotebookClient

    os.environ.update(environ)
    made = nbformat.read(path, as_version=4)
    kernel = environ.get("HEMMA_TEST_KERNEL", "python3")
    NotebookClient(
        made, kernel_name=kernel, timeout=60, allow_errors=True, resources={"metadata": {"path": str(folder)}}
    ).execute()
    return json.loads(nbformat.writes(made))


def main() -> int:
    """Answer one call and write it down."""
    contract = yaml.safe_load(CONTRACT.read_text())
    folder = Path(os.environ["STAND_IN"])
    command, options, arguments = parse(sys.argv[1:], contract)
    with (folder / "calls.jsonl").open("a") as file:
        file.write(json.dumps([command, options, arguments]) + "\n")
    return StandIn(folder).answer(command, options, arguments, contract)


if __name__ == "__main__":
    sys.exit(main())
