"""Runs on this disk, whatever started them: their folders, ends, lists, delivery."""
