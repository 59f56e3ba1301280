"""Drive, or a plain folder in its place: the same acts on both (S9-R14, S9-R24)."""
