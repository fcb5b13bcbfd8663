"""Commands for maintainers: checks, audits, CI workflows."""
