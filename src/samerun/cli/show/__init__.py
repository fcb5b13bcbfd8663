"""Results as text for a terminal: tables, verdicts, plots; without computations."""
