"""
The commands of samerun for a `tasks.py` of your own.

``from samerun.tasks import namespace`` is all that it needs; then `invoke train` works there.
"""

from samerun.cli import common
from samerun.cli.collection import namespace
from samerun.host.checkout import installed

__all__ = ["namespace"]

common.work_in(installed.root())
