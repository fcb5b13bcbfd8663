"""What reproducibility costs on a GPU: the deterministic settings, and checkpoints."""

from resuming import part
from starting import OFTEN, measured, script, train


def test_settings_and_checkpoints_cost_little(tmp_path, table):
    fast = measured(tmp_path / "fast", "measuring", "step", SAMERUN_FAST="1")["step_ms"]
    same = measured(tmp_path / "same", "measuring", "step")["step_ms"]
    table("deterministic settings", f"{same:.2f} ms a step, x {same / fast:.2f} of --fast")

    assert train(tmp_path / "kept", script("trainings"), "fine_tune", policy=OFTEN) == 0
    written = part(tmp_path / "kept", "checkpoints")
    each = 1e3 * written["seconds"] / written["count"]
    size = written["last_bytes"] / 1e6
    table("a checkpoint", f"{each:.0f} ms for {size:.0f} MB, {written['count']} written")
    assert written["count"] > 0
