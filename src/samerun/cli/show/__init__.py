"""Results as text for a terminal: tables, verdicts, plots. It computes nothing."""
