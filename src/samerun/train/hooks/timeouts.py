"""
Collectives wait two hours for the slowest rank, not torch's ten minutes with NCCL.

The main process alone writes models, predictions and data sets, which can take that long on a slow
disk or network, while the others wait in the next collective. NCCL's watchdog would abort them.
A rank that fails ends the job at once all the same, by the launcher. A script's own ``timeout`` for
``init_process_group`` stays.
"""

from datetime import timedelta
from typing import Any

LONGEST = timedelta(hours=2)
# Without NCCL in torch's build, its default is None and stays so.
_DEFAULTS = ("default_pg_timeout", "default_pg_nccl_timeout")


def install(distributed_c10d: Any) -> None:
    """Raise the defaults of the module ``torch.distributed.distributed_c10d``."""
    for name in _DEFAULTS:
        before = getattr(distributed_c10d, name, None)
        if before is not None and before < LONGEST:
            setattr(distributed_c10d, name, LONGEST)
