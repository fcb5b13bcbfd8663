import shutil

import pytest

from samerun.core.errors import LockStale, SetupFailed
from samerun.core.record import Base
from samerun.host.checkout import lock, lock_check
from samerun.host.checkout.project import Project
from samerun.host.image import lockfile
from samerun.host.image.lockfile import LockEntry

COPIED = ("pyproject.toml", "uv.lock", "docker", "Dockerfile")


@pytest.fixture
def copy(project, tmp_path):
    """A checkout to change: what is asked for and what is locked."""
    for name in COPIED:
        source = project.root / name
        put = shutil.copytree if source.is_dir() else shutil.copyfile
        put(source, tmp_path / name)
    return Project(root=tmp_path)


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize("cuda", ["12", "13"])
def test_sources_and_locks_agree(project, cuda):
    """This very checkout is one that can be built."""
    lock_check.check_lock(project, cuda)


def test_a_requirement_that_is_not_locked_is_named(copy):
    """Both sides of the difference, and what mends it."""
    edit(copy.root / "pyproject.toml", '"scikit-learn>=1.7"', '"scikit-learn>=1.8"')

    with pytest.raises(LockStale) as found:
        lock_check.check_lock(copy, "13")

    line = "pyproject.toml requires scikit-learn>=1.8, uv.lock was made for scikit-learn>=1.7"
    assert line in str(found.value)
    assert "invoke lock" in found.value.remedy


def test_a_new_and_a_dropped_requirement_are_named(copy):
    """Each as the one side that has it not at all."""
    edit(copy.root / "pyproject.toml", '"accelerate>=1.15"', '"attrs>=20"')

    with pytest.raises(LockStale) as found:
        lock_check.check_lock(copy, "13")

    assert "requires attrs>=20, uv.lock was made for attrs (not at all)" in str(found.value)
    assert "requires accelerate (not at all)" in str(found.value)


def test_a_torch_lock_of_another_resolution_is_named(copy):
    """The first layer's lock must be read off this uv.lock."""
    path = copy.root / lock.EXPORTS["cuda13"]
    edit(path, "torch==2.15.0", "torch==2.14.9")

    with pytest.raises(LockStale, match=r"cuda13.txt pins torch 2.14.9"):
        lock_check.check_lock(copy, "13")


def test_a_changed_hash_is_named(copy):
    """A hash that uv.lock does not have is no hash of this resolution."""
    path = copy.root / lock.EXPORTS["image-tools"]
    edit(path, "sha256:", "sha256:0000")

    with pytest.raises(LockStale, match=r"tools.txt has a hash of"):
        lock_check.check_lock(copy, "13")


def test_without_an_index_the_cpu_image_says_so(project):
    """PyPI has no CPU builds: the error names the index that has, and the other way out."""
    with pytest.raises(LockStale) as found:
        lock_check.check_lock(project, "none")

    assert "PyPI does not have" in str(found.value)
    assert "--cpu-index" in found.value.remedy


def test_an_index_with_a_password_is_refused(project):
    """It would stay in the lock, and in the image's history."""
    with pytest.raises(SetupFailed, match="contains a login"):
        lock.lock_cpu(project, "https://me:secret@example.org/simple")


def entry(**changes):
    values = {
        "layers_digest": "sha256:1",
        "config_digest": "sha256:2",
        "manifest_digest": "sha256:3",
        "index_digest": None,
        "store": "containerd",
        "platform": "linux/amd64",
        "base": Base(reference="base@sha256:4", origin="pulled"),
        "files": {"uv.lock": "5"},
        "inputs": "6",
        "epoch": 0,
        "engine": "26.1.5",
        "buildkit": "v0.13",
        "commit": "7",
    }
    return LockEntry(**values | changes)


def test_a_frozen_build_holds_to_the_file(copy):
    """The same digests pass, also from another commit or a newer engine."""
    lockfile.write(copy, "13", entry())

    lockfile.check_frozen(copy, "13", entry(commit="8", engine="29.0.0"))


def test_a_frozen_build_names_what_differs(copy):
    """Digest and cause: the base and the lock that are not the locked ones."""
    lockfile.write(copy, "13", entry())
    base = Base(reference="base@sha256:9", origin="pulled")

    with pytest.raises(LockStale) as found:
        lockfile.check_frozen(copy, "13", entry(layers_digest="sha256:0", base=base, files={}))

    assert "layers_digest: sha256:1 -> sha256:0" in str(found.value)
    assert "base.reference: base@sha256:4 -> base@sha256:9" in str(found.value)
    assert "files.uv.lock: 5 -> None" in str(found.value)


def test_stores_of_two_kinds_are_compared_by_their_layers(copy):
    """The classic store has no manifest of its own; what a registry gives depends on gzip."""
    lockfile.write(copy, "13", entry())

    lockfile.check_frozen(copy, "13", entry(store="classic", manifest_digest="sha256:0"))


def test_variants_have_entries_of_their_own(copy):
    """A build of one leaves the other's entry alone."""
    lockfile.write(copy, "13", entry())
    lockfile.write(copy, "12", entry(layers_digest="sha256:12"))

    assert set(lockfile.read(copy)) == {"cuda12", "cuda13"}
    with pytest.raises(LockStale, match="no entry for the variant cpu"):
        lockfile.check_frozen(copy, "none", entry())
