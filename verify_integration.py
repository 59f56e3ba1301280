"""Is every module of this repository wired to an entry point? The same as `hemma verify` (S19-R01); see its --help."""

from __future__ import annotations

import sys

from controller.cli.app import main

if __name__ == "__main__":
    sys.exit(main(["verify", *sys.argv[1:]]))
