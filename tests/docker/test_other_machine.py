"""An engine on a machine of another name: its files are not this machine's."""

import engines
import pytest
from driving import invoke


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """An engine as on another machine, whose socket is here, as by `ssh -L`."""
    folder = tmp_path_factory.mktemp("elsewhere")
    rename = ("unshare", "--uts", "sh", "-c", 'hostname elsewhere; exec "$@"', "sh")
    with engines.running(folder, containerd_store=True, prefix=rename) as host:
        yield host


def test_a_training_is_refused_before_anything_is_built_or_started(elsewhere, tmp_path):
    """Exit code 85, and nothing is there afterwards."""
    data, output = tmp_path / "data", tmp_path / "runs"
    data.mkdir()
    (data / "1.txt").write_text("one")
    done = invoke("train", "tabular", "--data", data, "--output", output, **elsewhere)

    assert done.returncode == 85, done.stderr
    assert "another machine or in a virtual one: elsewhere" in done.stderr
    assert not output.exists()


def test_doctor_says_so(elsewhere):
    """With what to do."""
    done = invoke("doctor", **elsewhere)

    assert "WRONG  engine  The Docker Engine is on another machine" in done.stdout
    assert "unset DOCKER_HOST" in done.stdout
