"""Draws the pictures of docs/callback.md from what runs have logged."""
