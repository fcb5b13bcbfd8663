"""What wandb recommends fits the host, where `invoke sync` is its `wandb sync`."""

from types import SimpleNamespace

import pytest

from samerun.train.hooks import wandb_advice

FATAL = "Fatal error while uploading data. Use `wandb sync` at the end of the run to try uploading."


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        (FATAL, ["Fatal error while uploading data. `invoke sync` uploads it later."]),
        ("Run `wandb offline` to turn off syncing.", []),
        (["one", "You can sync this run to the cloud", "two"], ["one\ntwo"]),
        ("Run history:", ["Run history:"]),
    ],
)
def test_advice_is_that_of_the_host(text, printed):
    shown = []
    display = wandb_advice._display(lambda printer, line: shown.append(line))
    display(SimpleNamespace(), text)
    assert shown == printed


def test_a_warning_of_wandbs_own_process_is_that_of_the_host():
    shown = []
    wandb_advice._warning(lambda text, **options: shown.append(text))(FATAL, prefix=True)
    assert shown == ["Fatal error while uploading data. `invoke sync` uploads it later."]
