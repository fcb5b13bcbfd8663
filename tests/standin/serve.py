"""Serve the W&B stand-in from a process: ``python serve.py --port 0 --data DIR``."""

import wbserver

wbserver.main()
