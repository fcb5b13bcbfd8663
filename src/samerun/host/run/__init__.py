"""Runs on this disk, no matter what started them: folders, recovery, listing, sync."""
