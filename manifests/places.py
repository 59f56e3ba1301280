"""Where Hemma keeps its own files on the controller. Standard library only on Linux: the `hemma run` path uses it.

Every folder can be moved by an environment variable, which is also how tests keep out of the real home.
"""

from __future__ import annotations

import os
import sys

from manifests.ownership import demand_root, private_dir

__all__ = ["cache_dir", "config_dir", "demand_own_roots", "private_dir", "state_dir"]


def _folder(override: str, xdg: str, fallback: str, platform_function: str) -> str:
    chosen = os.environ.get(override)
    if chosen:
        return os.path.abspath(chosen)
    if sys.platform.startswith("linux"):
        return os.path.join(os.environ.get(xdg) or os.path.expanduser(fallback), "hemma")
    import platformdirs  # not on the Linux path: import cost

    return str(getattr(platformdirs, platform_function)("hemma", appauthor=False))


def config_dir() -> str:
    """The folder of the user's config.toml ($HEMMA_CONFIG_DIR, else the platform's config folder)."""
    return _folder("HEMMA_CONFIG_DIR", "XDG_CONFIG_HOME", "~/.config", "user_config_dir")


def state_dir() -> str:
    """The folder of broker logs, loopback hosts and error reports ($HEMMA_STATE_DIR, else the platform's)."""
    return _folder("HEMMA_STATE_DIR", "XDG_STATE_HOME", "~/.local/state", "user_state_dir")


def cache_dir() -> str:
    """The folder of settings snapshots: safe to delete at any time ($HEMMA_CACHE_DIR, else the platform's)."""
    return _folder("HEMMA_CACHE_DIR", "XDG_CACHE_HOME", "~/.cache", "user_cache_dir")


def demand_own_roots() -> None:
    """See that config, state and cache folder, where they exist, are this user's and nobody else may write there.

    Whatever is read below them relies on it. Raises NotPrivate.
    """
    for root in (config_dir(), state_dir(), cache_dir()):
        demand_root(root)
