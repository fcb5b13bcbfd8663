"""Standalone containers, which `invoke train` did not start and which write their own record."""
