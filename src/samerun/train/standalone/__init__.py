"""A container that no host side started: it keeps its own record."""
