"""What maintainers run: checks, audits, workflows."""
