"""One container, from its description to its removal. It knows no run folder."""
