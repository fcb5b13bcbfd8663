"""Check a request, start the run, and follow it to its end."""
