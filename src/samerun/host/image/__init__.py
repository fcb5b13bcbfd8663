"""Building images, identifying them, and moving them between machines; not about runs."""
