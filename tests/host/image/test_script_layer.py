import io
import os
import subprocess
import tarfile

import pytest

from samerun.core.errors import CodeError
from samerun.host.image import script_layer


@pytest.fixture
def folder(tmp_path):
    """A script with a helper, data that is ignored, and what tools leave behind."""
    for name in ("train.py", "lib/helper.py", "big.bin", "wandb/x", "__pycache__/train.pyc"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / ".gitignore").write_text("*.bin\n")
    return tmp_path


def names(folder):
    return [str(path) for path in script_layer.list_files(folder)]


def test_ignore_files_are_respected(folder):
    """What .gitignore names, and what tools leave, is no code."""
    assert names(folder) == [".gitignore", "lib/helper.py", "train.py"]


def test_dockerignore_counts_too(folder):
    """Both files are known to users."""
    (folder / ".dockerignore").write_text("lib/\n.dockerignore\n.gitignore\n")

    assert names(folder) == ["train.py"]


def test_nested_gitignore_counts_in_a_git_tree(folder):
    """In a work tree git itself says what is ignored."""
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    (folder / "lib" / ".gitignore").write_text("helper.py\n")

    assert names(folder) == [".gitignore", "lib/.gitignore", "train.py"]


def test_same_code_gives_the_same_bytes(folder):
    """File times and owners do not get into the context."""
    first = script_layer.pack(folder, "parent")
    os.utime(folder / "train.py", (1, 1))

    assert first == script_layer.pack(folder, "parent")


def test_context_holds_the_code_and_its_parent(folder):
    """One FROM, one COPY."""
    with tarfile.open(fileobj=io.BytesIO(script_layer.pack(folder, "parent:tag"))) as tar:
        dockerfile = tar.extractfile("Dockerfile").read().decode()

        assert dockerfile.startswith("FROM parent:tag\nCOPY ")
        assert "code/lib/helper.py" in tar.getnames()
        assert "code/big.bin" not in tar.getnames()


def test_too_large_a_folder_is_refused(folder, monkeypatch):
    """Data belongs behind --data; the error says so."""
    monkeypatch.setattr(script_layer, "LIMIT_BYTES", 10)

    with pytest.raises(CodeError, match="--data"):
        script_layer.pack(folder, "parent")


def test_missing_script_is_named(tmp_path):
    """The path stands in the message."""
    with pytest.raises(CodeError, match=r"no\.py"):
        script_layer.find(tmp_path / "no.py")
