"""The files, the commit and the locks of a checkout. It knows no engine."""
