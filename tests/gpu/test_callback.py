"""The callback on a GPU: it changes no bit, does not wait for the device, and costs little."""

from conftest import ON_CPU
from starting import measured


def test_callback_does_not_wait_for_the_gpu_and_changes_no_bit(tmp_path, table):
    found = measured(tmp_path, "measuring")
    without, logged = found["synchronizations without"], found["synchronizations with"]
    table("synchronizations per step without and with the callback", f"{without} and {logged}")
    for kind in ("resnet", "linear"):
        seen = found[kind]
        table(
            f"a step of {seen['step_ms']} ms ({kind}) with the callback",
            f"x {seen['ratio']}, {seen['added_cpu_us']} us of CPU more",
        )
    table("weights with and without the callback", found["same weights"])
    table("rows of GPU memory", ", ".join(found["rows"]))
    assert found["same weights"]
    # One in 64 steps sends a stack of losses; nothing waits in between.
    assert logged - without <= 0.1
    assert ON_CPU or "gpu_memory_gib" in found["rows"]
