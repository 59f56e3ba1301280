"""A program in the place of Google's `colab`: it takes what the recorded contract allows, and nothing else.

It is told by STAND_IN, a folder: `plan.json` says what goes wrong, `state.json` holds its sessions, `calls.jsonl` what it
was asked. The notebook it is given is not run; what a run would write to Drive, `plan.json` says.
"""

from __future__ import annotations

import json
import os
import re
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
        if command in ("drivemount", "exec") and options.get("s", "") not in self.sessions:
            print(f"[colab] Session '{options.get('s', '')}' not found.")
            return 1
        before = dict(self.sessions)
        code = int(getattr(self, "do_" + command)(options, arguments, contract) or 0)
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
        for name, hardware in {**self.sessions, **self.plan.get("foreign", {})}.items():
            print(
                f"[{name}] gpu-{name}-s-1 | Hardware: {hardware} | Variant: {'GPU' if hardware != 'CPU' else 'DEFAULT'}"
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
        """Nothing to see."""
        print(f"[colab] Mounting Google Drive to '{arguments[0]}' on {options['s']}...")

    def do_exec(self, options: dict[str, str], arguments: list[str], contract: dict[str, Any]) -> int:
        """Write what the run would write, then the notebook with outputs. A cell that fails is no failure of ours."""
        print(f"[colab] Parsing notebook '{options['f']}'...", flush=True)
        for step in self.plan.get("run", []):
            time.sleep(step.get("after_s", 0))
            for path, text in step["files"].items():
                target = Path(path)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(text)
        if self.plan.get("lost"):  # what another process stopped meanwhile stays stopped
            print(f"[colab] Session '{options['s']}' appears to be lost (404/401). Cleaning up.")
            self.sessions.pop(options["s"], None)
            return 1
        if float(options.get("timeout") or contract["behaviour"]["exec_timeout_s"]) <= 30:
            print("TimeoutError: a cell took longer than --timeout", file=sys.stderr)
            return 1
        notebook = json.loads(Path(options["f"]).read_text())
        error = self.plan.get("cell_error")
        if error:
            output = {"output_type": "error", "ename": error[0], "evalue": error[1], "traceback": []}
            notebook["cells"].append({"cell_type": "code", "source": "x", "outputs": [output], "metadata": {}})
        Path(os.path.splitext(options["f"])[0] + "_output.ipynb").write_text(json.dumps(notebook))
        return 0


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
