"""The user's cache folder: what is kept there saves time, and no container can write to it."""

from pathlib import Path

import platformdirs


def folder(subject: str) -> Path:
    """Return the folder for *subject*, which may not exist yet (``XDG_CACHE_HOME`` counts)."""
    return platformdirs.user_cache_path("samerun", appauthor=False) / subject
