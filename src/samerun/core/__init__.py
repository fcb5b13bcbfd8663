"""Code shared by host and container. Imports only itself and the standard library."""
