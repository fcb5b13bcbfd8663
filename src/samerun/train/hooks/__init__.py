"""What is done to a library when it has been imported: signing, observing, determinism."""
