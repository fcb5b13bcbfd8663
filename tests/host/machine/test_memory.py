"""How much memory a run gets."""

import dataclasses

import pytest

from samerun.host.machine import memory


@pytest.mark.parametrize(
    ("procs", "cores", "size"),
    [(1, 2, "2g"), (1, 16, "4g"), (2, 16, "8g"), (8, 96, "32g"), (8, 4, "16g"), (1, 10, "2g")],
)
def test_shared_memory_is_sized_by_processes_and_workers(procs, cores, size):
    """Loaders have as many workers as cores, 16 at most; measured need: 1.3 GB for 16."""
    assert memory.shared_memory(procs, cores) == size


@pytest.mark.parametrize(
    ("size", "nodes", "together"),
    [
        ("4g", 2, "8g"),
        ("512M", 3, "1536M"),
        ("4g", 1, "4g"),
        ("odd", 2, "odd"),
        ("9" * 99, 2, "9" * 99),
    ],
)
def test_a_rerun_on_one_machine_has_the_shared_memory_of_all_nodes(run, size, nodes, together):
    """All processes are then on this machine; a record's odd value stays for the check of it."""
    topology = dataclasses.replace(run.topology, shm_size=size, nodes=nodes)

    assert memory.shared_on_one_machine(topology) == together
