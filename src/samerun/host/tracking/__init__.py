"""The W&B key, and queries to W&B's server; imports only core."""
