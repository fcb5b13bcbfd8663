"""The image's environment, as the Dockerfile sets it."""

from pathlib import Path

DOCKERFILE = Path(__file__).resolve().parents[3] / "Dockerfile"


def test_image_looks_for_the_driver_where_gke_mounts_it():
    """GKE's device plugin adds it to no path; the image's own programs come first."""
    settings = DOCKERFILE.read_text(encoding="utf-8").split()
    assert "LD_LIBRARY_PATH=/usr/local/nvidia/lib64" in settings
    assert "PATH=$PATH:/usr/local/nvidia/bin" in settings
