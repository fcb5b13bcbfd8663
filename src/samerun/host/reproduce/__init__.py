"""A record in, a verdict out. It prints nothing."""
