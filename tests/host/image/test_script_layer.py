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
    first = script_layer.pack(folder)
    os.utime(folder / "train.py", (1, 1))

    assert first == script_layer.pack(folder)


def test_context_holds_the_code_and_its_parent(folder):
    """One FROM, one COPY."""
    with tarfile.open(fileobj=io.BytesIO(script_layer.pack(folder))) as tar:
        dockerfile = tar.extractfile("Dockerfile").read().decode()

        assert dockerfile.startswith("ARG PARENT\nFROM $PARENT\nCOPY ")
        assert "code/lib/helper.py" in tar.getnames()
        assert "code/big.bin" not in tar.getnames()


def test_too_large_a_folder_is_refused(folder, monkeypatch):
    """Data belongs behind --data; the error says so."""
    monkeypatch.setattr(script_layer, "LIMIT_BYTES", 10)

    with pytest.raises(CodeError, match="--data"):
        script_layer.pack(folder)


def test_missing_script_is_named(tmp_path):
    """The path stands in the message."""
    with pytest.raises(CodeError, match=r"no\.py"):
        script_layer.find(tmp_path / "no.py")


def test_dockerignore_follows_dockers_rules(folder):
    """Patterns are of the root, and a later exception counts: an allow-list works."""
    (folder / "names.csv").write_text("x")
    (folder / "lib" / "names.csv").write_text("x")
    (folder / ".dockerignore").write_text("# data\n*.csv\n.*\n")
    assert names(folder) == ["lib/helper.py", "lib/names.csv", "train.py"]

    (folder / ".dockerignore").write_text("*\n!train.py\n!lib\n")
    assert names(folder) == ["lib/helper.py", "lib/names.csv", "train.py"]


def test_a_link_that_leads_out_is_refused(folder, tmp_path_factory):
    """Its target would be in a layer that is pushed and shared."""
    secret = tmp_path_factory.mktemp("home") / "secret"
    secret.write_text("key")
    (folder / "link.txt").symlink_to(secret)

    with pytest.raises(CodeError, match=r"link\.txt.*secret"):
        script_layer.list_files(folder)
    (folder / ".dockerignore").write_text("link.txt\n")
    assert "link.txt" not in names(folder)


def test_a_link_to_a_folder_is_refused_and_one_to_a_file_within_counts(folder):
    """The one would be missing without a word, the other is the file."""
    (folder / "again.py").symlink_to("train.py")
    assert "again.py" in names(folder)
    (folder / "more").symlink_to("lib")

    with pytest.raises(CodeError, match="more is a link to a folder"):
        script_layer.list_files(folder)


def test_names_and_patterns_of_any_bytes_are_no_traceback(folder):
    """A file name that is not UTF-8 is packed; a pattern file that is not is an error."""
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    (folder / os.fsdecode(b"caf\xe9.py")).write_text("x")
    assert any(name.startswith("caf") for name in names(folder))
    script_layer.pack(folder)
    (folder / ".dockerignore").write_bytes(b"\xff\n")

    with pytest.raises(CodeError, match="dockerignore"):
        script_layer.list_files(folder)
