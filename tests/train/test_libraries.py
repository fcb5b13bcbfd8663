"""What the image left out (docker/left-out.txt) is missed by no library that is there."""

import ctypes
import re
import sysconfig
from pathlib import Path

import pytest

SITE = Path(sysconfig.get_path("purelib"))
# What the driver brings; network stacks that nvshmem and cuFile load on clusters only; and
# what the libgfortran in torch's wheel names, which the wheel itself does not bring.
FROM_ELSEWHERE = re.compile(
    r"lib(cuda|nvidia-ml|mlx5|ucs|ucp|pmix|oshmem|mpi|fabric|rdmacm|ibverbs|quadmath)\.so"
)


def libraries():
    found = [*SITE.glob("nvidia/*/lib/*.so*"), *SITE.glob("torch/lib/*.so*")]
    return sorted(path for path in found if path.is_file())


@pytest.mark.skipif(not list(SITE.glob("nvidia/*/lib")), reason="torch without CUDA")
def test_every_cuda_library_finds_what_it_needs():
    """Each loads with all that it names; only the driver and cluster networks are not here."""
    import torch  # noqa: F401 - the libraries of one folder find each other through it

    missing = {}
    for path in libraries():
        try:
            ctypes.CDLL(str(path))
        except OSError as error:
            if not FROM_ELSEWHERE.search(str(error)):
                missing[path.name] = str(error)

    assert len(libraries()) > 30
    assert missing == {}
