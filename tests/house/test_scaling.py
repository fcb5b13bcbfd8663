"""docs/scaling.md quotes the simulation, and the simulation behaves."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def scaling():
    spec = importlib.util.spec_from_file_location("scaling", ROOT / "benchmarks" / "scaling.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_s_tables_are_the_simulation_s(scaling):
    """Every table, to the last digit, and the sizes in the text."""
    page = (ROOT / "docs" / "scaling.md").read_text()

    assert [name for name, make in scaling.TABLES.items() if make() not in page] == []
    assert f"{scaling.IMAGE / 1e9:.2f} GB" in page


def test_one_machine_waits_as_long_as_its_own_network_takes(scaling):
    """Within a step of the simulation."""
    alone = scaling.pull(1, scaling.IMAGE, 1000 * scaling.GBIT).last_s

    assert alone == pytest.approx(
        scaling.IMAGE / scaling.MACHINE + scaling.unpack(scaling.IMAGE), abs=2 * scaling.STEP_S
    )


def test_a_narrow_registry_serves_the_sum(scaling):
    """A thousand machines wait for a thousand images to come through one line."""
    size = scaling.IMAGE
    last = scaling.pull(1000, size, scaling.MACHINE).last_s

    assert last == pytest.approx(1000 * size / scaling.MACHINE, rel=0.05)


def test_machines_that_share_wait_less(scaling):
    """By more than ten times, for a whole image."""
    alone = scaling.pull(100, scaling.IMAGE, scaling.MACHINE).last_s
    shared = scaling.pull(100, scaling.IMAGE, scaling.MACHINE, peers=True).last_s

    assert shared < alone / 10
