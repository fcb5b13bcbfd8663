"""Set a machine up so that it can build and train, and report what is missing."""
