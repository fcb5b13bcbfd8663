"""Rerun a run from its record, compare the results, and return a verdict; prints nothing."""
