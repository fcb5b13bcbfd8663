"""Operations that torch has no deterministic form for, and those that fastai's heads use."""

from starting import measured

FASTAI_USES = ("adaptive_max_pool2d to 1", "adaptive_max_pool2d to 1, ties", "conv2d", "batch_norm")


def test_operations_of_fastais_heads_repeat_to_the_bit(tmp_path, table):
    found = measured(tmp_path, "operations")
    for name, seen in found.items():
        word = seen.get("error") or ("same bits" if seen["repeatable"] else "DIFFERENT")
        table(f"operation: {name}", word + ", torch warns" * seen.get("warns", False))
    for name in FASTAI_USES:
        assert found[name]["repeatable"], found[name]
