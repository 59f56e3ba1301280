"""THE DOOR: puts our own root first on sys.path, then opens the thin `run` client or the CLI."""
