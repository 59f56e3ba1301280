"""What travels and what there is to read: bytes sent to a host, round trips after login, lines per room.

    benchmarks/size.py [--json FILE]

Nothing is timed. The bytes are counted from what is really sent; the round trips are counted in the protocol (see NOTES.md).
"""

from __future__ import annotations

import sys
from pathlib import Path

from harness import table
from harness.table import Row

from remote import delivery

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("hemma", "controller", "remote", "training", "lanes", "manifests", "tests")


def sent() -> list[Row]:
    """Bytes that go to a host: once per version of the agent, and once per connection."""
    archive, _ = delivery.agent_zip()
    source = sum(path.stat().st_size for path in (ROOT / "remote/agent").glob("*.py"))
    return [
        Row("agent, sent once per version (zip)", len(archive), source, "bytes", None, "its source"),
        Row("first stage, sent with each connection", len(delivery.greeting()), None, "bytes"),
        Row("command line on the host", len(delivery.command_line("python3").encode()), None, "bytes"),
    ]


def round_trips() -> list[Row]:
    """Waits for the host after login, until the end of a short command is known."""
    # Channel opened, exec confirmed, first stage asks for the zip, agent says hello, command ends.
    return [
        Row("round trips after login, agent sent", 5, 2, "", None, "ssh"),
        Row("round trips after login, agent cached", 4, 2, "", None, "ssh"),
        Row("round trips, warm", 1, 2, "", None, "ssh, ControlMaster"),
    ]


def lines() -> list[Row]:
    """Lines of Python in each room."""
    counted = {room: sum(_lines(path) for path in (ROOT / room).rglob("*.py")) for room in ROOMS}
    agent = sum(_lines(path) for path in (ROOT / "remote/agent").glob("*.py"))
    rows = [Row(f"lines in {room}/", count, None, "lines") for room, count in counted.items()]
    return [*rows, Row("… of them in remote/agent/", agent, None, "lines")]


def _lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def main() -> int:
    """Count and show; returns 0."""
    options = table.parser_for(__doc__ or "").parse_args()
    table.show("What travels, and what there is to read", [*sent(), *round_trips(), *lines()], options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
