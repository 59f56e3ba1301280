"""Entry point of `hemma`, `run-hemma` and `python -m hemma`.

Our own root goes first on sys.path before anything else is imported: a user's `training/` on PYTHONPATH must not hide
ours (style 2.3). `run` goes to the thin client without loading the CLI.

`python -m` puts the working directory in front: it is taken away before the first import that could look there (no
`__future__` either: that is a file). What Python itself imports for `-m` before that (importlib and what it needs) only `-P` keeps
from it, which is how Hemma starts itself.
"""

import sys

if not sys.flags.safe_path and __name__ == "__main__" and __spec__ is not None:
    del sys.path[0]

import os


def _open_door() -> None:
    _fill_closed_streams()
    here = os.path.dirname(os.path.abspath(__file__))
    packed = os.path.join(here, "_app")
    root = packed if os.path.isdir(packed) else os.path.dirname(here)
    # An empty entry of PYTHONPATH is the working directory too.
    sys.path[:] = [root, *(path for path in sys.path if path not in ("", ".", root))]


def _fill_closed_streams() -> None:
    """Give a stdin, stdout or stderr that was closed (cron, `<&-`) to /dev/null, before a socket of ours gets its number."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:  # what Python makes of a closed file
            setattr(sys, name, os.fdopen(number, "w", closefd=False))


def main() -> int:
    """Run the `hemma` command line; returns the exit code, 130 after a Ctrl-C that came while we were being loaded."""
    try:
        return _main()
    except KeyboardInterrupt:
        return _leave()


def _leave() -> int:
    """One line for a Ctrl-C that nobody else took, and not what Python says of it."""
    os.write(2, b"interrupted\n")
    return 130


def _main() -> int:
    _open_door()
    if sys.argv[1:2] == ["run"]:
        return _run(sys.argv[2:])
    if sys.argv[1:3] == ["broker", "serve"] and len(sys.argv) == 4:
        from remote.broker import serve

        return serve(sys.argv[3], _disk_budget)
    from controller.cli import leaving

    return leaving.guarded(_cli)


def _cli() -> int:
    from controller.cli.app import main as cli

    return cli(sys.argv[1:])


def _disk_budget(host: str) -> int | None:
    """What its person wants kept of the runs on this host, in bytes; asked once a day."""
    from controller.flows.personal import kept_bytes

    return kept_bytes(host)


def run_hemma() -> int:
    """Run `run-hemma`: the same as `hemma run`; returns the exit code."""
    try:
        _open_door()
        return _run(sys.argv[1:])
    except KeyboardInterrupt:
        return _leave()


def _run(arguments: list[str]) -> int:
    from controller.cli.run import main as run

    code = run(arguments)
    if "coverage" in sys.modules:
        return code  # it writes what it has seen on the way out
    # Nothing of ours is left to tidy up, and taking the interpreter down in order costs more than the run's round trip.
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            code = code or 1  # our reader is gone
    os._exit(code)


if __name__ == "__main__":
    sys.exit(main())
