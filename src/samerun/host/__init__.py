"""The host side: drives Docker, never imports a framework."""
