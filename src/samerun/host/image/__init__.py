"""From sources to a digest, and from this machine to others. It knows no run."""
