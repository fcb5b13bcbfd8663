"""The files, the commit and the lock files of a checkout; independent of the engine."""
