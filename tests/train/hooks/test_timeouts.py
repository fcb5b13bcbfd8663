"""Ranks wait for the main process's own work."""

from datetime import timedelta
from types import SimpleNamespace

from samerun.train.hooks import timeouts


def test_defaults_of_torch_become_two_hours():
    from torch.distributed import distributed_c10d as ours

    module = SimpleNamespace(
        default_pg_timeout=ours.default_pg_timeout, default_pg_nccl_timeout=timedelta(minutes=10)
    )
    timeouts.install(module)

    assert module.default_pg_timeout == module.default_pg_nccl_timeout == timedelta(hours=2)


def test_longer_default_and_a_torch_without_nccl_stay_as_they_are():
    module = SimpleNamespace(default_pg_timeout=timedelta(days=1), default_pg_nccl_timeout=None)
    timeouts.install(module)
    assert (module.default_pg_timeout, module.default_pg_nccl_timeout) == (timedelta(days=1), None)
    timeouts.install(SimpleNamespace())


def test_groups_of_a_training_get_the_longer_default(tmp_path):
    """The hook is loaded before torch; a group's own timeout stays."""
    import subprocess
    import sys

    code = """
import samerun.train.hook, torch.distributed as d
from datetime import timedelta
def timeout(**given):
    d.init_process_group("gloo", rank=0, world_size=1, store=d.HashStore(), **given)
    found = d.distributed_c10d._get_pg_default_device and d.group.WORLD._get_backend(
        __import__("torch").device("cpu")).options._timeout
    d.destroy_process_group()
    return found
print(timeout(), timeout(timeout=timedelta(minutes=3)))
"""
    line = [sys.executable, "-c", code]
    done = subprocess.run(line, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.stdout.split() == ["2:00:00", "0:03:00"], done.stderr
