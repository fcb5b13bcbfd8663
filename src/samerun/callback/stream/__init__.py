"""What the callback counts and sends: rows, metrics, progress; it never waits for the device."""
