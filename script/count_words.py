"""The row processor of manifests/slices/own-text.yaml: what script/demo runs the way Colab would."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any


def count(row: dict[str, Any]) -> dict[str, Any]:
    """How many words the row's text has, and which three are the most frequent."""
    words = re.findall(r"\w+", str(row["text"]).lower())
    return {"words": len(words), "frequent": [word for word, _ in Counter(words).most_common(3)]}
