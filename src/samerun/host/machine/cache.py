"""The user's cache folder: its files save time, and no container can write to them."""

from pathlib import Path

import platformdirs


def folder(subject: str) -> Path:
    """Return the folder for *subject*, which may not exist yet (``XDG_CACHE_HOME`` counts)."""
    return platformdirs.user_cache_path("samerun", appauthor=False) / subject
