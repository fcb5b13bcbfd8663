import pytest

from samerun.core.errors import EngineMissing, NoGpu, UsageError
from samerun.host.container import start_errors

DAEMON = "docker: Error response from daemon: "
CREATE = (
    f"{DAEMON}failed to create task for container: failed to create shim task: OCI runtime create "
    "failed: runc create failed: unable to start container process: error during container init: "
)
TAIL = "\n\nRun 'docker run --help' for more information\n"


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        # Engines before 29, without the toolkit or not restarted after it.
        (f'{DAEMON}could not select device driver "" with capabilities: [[gpu]]', "invoke setup"),
        # Engines from 29 on.
        (
            f"{DAEMON}failed to discover GPU vendor from CDI: no known GPU vendor found",
            "invoke setup",
        ),
        # A specification of another driver, or of GPUs that were there before.
        (
            f"{DAEMON}CDI device injection failed: unresolvable CDI devices nvidia.com/gpu=1",
            "nvidia-cdi-refresh",
        ),
        (
            (
                f"{CREATE}failed to inject CDI devices: failed to stat CDI host device "
                '"/dev/nvidia0": no such file or directory'
            ),
            "nvidia-cdi-refresh",
        ),
        (f"{DAEMON}no CDI device driver registered: could not select", "nvidia-cdi-refresh"),
        # The hook of the toolkit: its own words stand on the second line.
        (
            (
                f"{CREATE}error running prestart hook #0: exit status 1, stdout: , stderr: "
                "Auto-detected mode as 'legacy'\nnvidia-container-cli: mount error: failed to add "
                "device rules: unable to find any existing device filters attached to the cgroup: "
                "bpf_prog_query(BPF_CGROUP_DEVICE) failed: operation not permitted"
            ),
            "rootless",
        ),
        (
            (
                f"{CREATE}error running prestart hook #0: exit status 1, stdout: , stderr: "
                "Auto-detected mode as 'legacy'\nnvidia-container-cli: initialization error: nvml "
                "error: driver/library version mismatch"
            ),
            "restart the machine",
        ),
        (
            (
                f"{CREATE}error running hook #0: exit status 1, stdout: , stderr: Auto-detected "
                "mode as 'legacy'\nnvidia-container-cli: device error: GPU-0ff: unknown device"
            ),
            "nvidia-smi -L",
        ),
        (
            (
                f"{CREATE}error running createContainer hook #1: exit status 1, stdout: , stderr: "
                "failed to update ldcache"
            ),
            "nvidia-smi",
        ),
    ],
)
def test_an_engine_that_gives_no_gpu_is_told_with_the_cause(text, remedy):
    """In the words of each generation; exit code 72, not that of a missing engine."""
    error = start_errors.explain(text + TAIL)

    assert isinstance(error, NoGpu)
    assert remedy in error.remedy
    assert "\n" not in error.what


def test_the_words_of_a_hook_are_shown_not_the_engine_s_around_it():
    """The first line says only that a hook failed."""
    text = f"{CREATE}stderr: Auto\nnvidia-container-cli: initialization error: driver not loaded"

    assert start_errors.explain(text).what == (
        "The container can't start: nvidia-container-cli: initialization error: driver not loaded"
    )


def test_other_errors_keep_their_kind():
    """An option that the engine refuses, and what nobody knows."""
    assert isinstance(start_errors.explain("docker: invalid argument"), UsageError)
    assert isinstance(start_errors.explain(""), EngineMissing)
