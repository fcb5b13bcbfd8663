"""Recipes: one small file each, with ``def train(session, *, option=default)``."""

from pathlib import Path

FOLDER = Path(__file__).parent
