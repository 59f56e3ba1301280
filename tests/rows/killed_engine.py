"""A session of a slice's own engine whose process dies by kill -9 in the middle of a chosen act: SLICE RUN ACT SHARE."""

from __future__ import annotations

import importlib
import os
import sys


def main() -> int:
    """Run it; returns the engine's exit code when the fatal act never came."""
    folder, run, fatal, torn = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
    source = os.path.join(folder, "source.pyz")
    sys.path[:0] = [source, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))]
    from tests.rows.hostile_files import deadly

    room = "hemma_payload.training.rows"
    engine, bundle, files = (importlib.import_module(f"{room}.{name}") for name in ("engine", "bundle", "files"))
    asked = engine.Asked(folder, os.path.basename(run), source)
    made = deadly(files.LocalFiles, fatal, torn)(run)
    return int(engine.RowRun(asked, bundle.verify(folder), made).run())


if __name__ == "__main__":
    sys.exit(main())
