"""Failures on a GPU are told apart: out of memory is not a bug, and a bug not a lost card."""

import subprocess
import sys

import pytest
from conftest import ON_CPU
from resuming import part
from starting import beside, script, train

OUT_OF_MEMORY = 112
EXPECTED = {
    "oom": {OUT_OF_MEMORY},
    "raised": {1},
    "killed": {-9, 137},
}
NAMES = ["raised", "killed"] if ON_CPU else [*EXPECTED, "assertion"]


@pytest.fixture(scope="module")
def failed(tmp_path_factory):
    top = tmp_path_factory.mktemp("failed")
    codes = beside([lambda n=n: train(top / n, script("failing"), n, policy="") for n in NAMES])
    return top, dict(zip(NAMES, codes, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_failure_has_its_code_and_its_name(failed, table, name):
    top, codes = failed
    said = (top / name / "log.txt").read_text()
    reported = (top / name / ".samerun" / "failure-0.json").exists()
    told = part(top / name, "failure-0") if reported else {}
    table(f"failure: {name}", f"exit code {codes[name]}", str(told)[:300].replace("|", "/"))
    assert codes[name] in EXPECTED.get(name, {codes[name]}), said
    assert codes[name] != 0


@pytest.mark.gpus(1)
@pytest.mark.parametrize("left", [100, 550, 700])
def test_full_card_is_out_of_memory_wherever_it_is_met(tmp_path, table, left):
    """Another process holds the card: the context, cuBLAS, cuDNN or torch fails."""
    hog = [sys.executable, script("hogging"), str(left)]
    with subprocess.Popen(hog, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "holding\n"
        code = train(tmp_path, script("trainings"), "fp32", policy="")
        holder.kill()
    said = (tmp_path / "log.txt").read_text()
    table(
        f"{left} MiB left on the card", f"exit code {code}: {said.strip().splitlines()[-1][:200]}"
    )
    assert code == OUT_OF_MEMORY, said
