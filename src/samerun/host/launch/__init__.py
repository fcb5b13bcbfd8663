"""From what was asked to a run that has ended."""
