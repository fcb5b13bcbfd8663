"""Bring a machine to the point where it can build and train, and say what is missing."""
