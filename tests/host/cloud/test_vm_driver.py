"""The NVIDIA driver of a VM, in the script that prepares it."""

import os
import subprocess

from asking import asked

from samerun.host.cloud import vm
from samerun.host.cloud.request import Gpus

ONE = Gpus(name="L4", number=1)


def prepared(tmp_path, smi):
    """Run the driver's lines with programs that note their arguments."""
    noted = tmp_path / "noted"
    programs = {"nvidia-smi": smi, "apt-get": "exit 0", "modprobe": "exit 0", "uname": "echo 6.8"}
    for name, body in programs.items():
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\necho "{name} $*" >> {noted}\n{body}\n')
        program.chmod(0o755)
    script = "set -eu\n" + "\n".join(vm.DRIVER_TOOLS)
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-c", script], env={"PATH": path}, capture_output=True, text=True, check=False
    )
    return done, noted.read_text()


def test_driver_is_of_a_branch_that_the_image_supports():
    """Ubuntu's own choice may be older."""
    assert vm.document(asked("vm", gpus=ONE))["drivers"]["nvidia"]["version"] == "580-server"


def test_vm_without_gpus_needs_no_driver():
    assert "nvidia-smi" in vm.prepare(asked("vm", gpus=ONE))
    assert "nvidia-smi" not in vm.prepare(asked("vm"))


def test_missing_tools_are_installed_for_the_kernel_that_runs(tmp_path):
    smi = f"grep -q modprobe {tmp_path}/noted"
    done, noted = prepared(tmp_path, smi)
    assert done.returncode == 0
    assert "nvidia-utils-580-server linux-modules-nvidia-580-server-6.8" in noted


def test_driver_of_the_vm_image_is_kept(tmp_path):
    done, noted = prepared(tmp_path, "exit 0")
    assert done.returncode == 0
    assert "apt-get" not in noted


def test_driver_that_does_not_answer_ends_the_preparation(tmp_path):
    done, _ = prepared(tmp_path, "exit 9")
    assert done.returncode == 1
    assert "does not answer" in done.stderr
