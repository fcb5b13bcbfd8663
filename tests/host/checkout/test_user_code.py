"""Which files of a user's project go into the image, and where its script lies in it."""

import os
import subprocess

import pytest

from samerun.core.errors import CodeError, UsageError
from samerun.host.checkout import user_code


@pytest.fixture
def folder(tmp_path):
    """A script with a helper, data that is ignored, and what tools leave behind."""
    for name in ("train.py", "lib/helper.py", "big.bin", "wandb/x", "__pycache__/train.pyc"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / ".gitignore").write_text("*.bin\n")
    return tmp_path


def names(folder, name="train.py", **options):
    script = user_code.find(folder / name, **options)
    return [str(path) for path in user_code.list_files(script)]


def git(folder, *arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "protocol.file.allow=always"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


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


def test_missing_script_is_named(tmp_path):
    """The path stands in the message."""
    with pytest.raises(CodeError, match=r"no\.py"):
        user_code.find(tmp_path / "no.py")


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
        names(folder)
    (folder / ".dockerignore").write_text("link.txt\n")
    assert "link.txt" not in names(folder)


def test_a_link_to_a_folder_is_refused_and_one_to_a_file_within_counts(folder):
    """The one would be missing without a word, the other is the file."""
    (folder / "again.py").symlink_to("train.py")
    assert "again.py" in names(folder)
    (folder / "more").symlink_to("lib")

    with pytest.raises(CodeError, match="more is a link to a folder"):
        names(folder)


def test_names_and_patterns_of_any_bytes_are_no_traceback(folder):
    """A file name that is not UTF-8 is packed; a pattern file that is not is an error."""
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    (folder / os.fsdecode(b"caf\xe9.py")).write_text("x")
    assert any(name.startswith("caf") for name in names(folder))
    (folder / ".dockerignore").write_bytes(b"\xff\n")

    with pytest.raises(CodeError, match="dockerignore"):
        names(folder)


@pytest.mark.parametrize("mark", user_code.MARKS)
def test_the_project_is_the_nearest_folder_with_a_mark(folder, mark):
    """All of it goes in, and the script has its place in it."""
    (folder / mark).mkdir() if mark == ".git" else (folder / mark).write_text("")
    inner = folder / "scripts" / "deep"
    inner.mkdir(parents=True)
    (inner / "run.py").write_text("")

    script = user_code.find(inner / "run.py")
    assert (script.root, script.target) == (folder, "/code/scripts/deep/run.py")
    assert {"train.py", "lib/helper.py"} < set(names(inner, "run.py"))
    (inner / "requirements.txt").write_text("")
    assert user_code.find(inner / "run.py").target == "/code/run.py"


def test_without_a_mark_the_project_is_the_folder_of_the_script(folder):
    """Also where a mark lies in the home folder, or above: that is not one project."""
    script = user_code.find(folder / "lib" / "helper.py")
    assert (script.root, script.target) == (folder / "lib", "/code/helper.py")


def test_the_home_folder_is_no_project(folder, monkeypatch):
    """Such as one whose settings are kept in git."""
    monkeypatch.setenv("HOME", str(folder))
    (folder / ".git").mkdir()
    assert user_code.find(folder / "lib" / "helper.py").root == folder / "lib"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file to another user")
def test_a_mark_of_another_user_does_not_count(folder):
    """It would make a shared folder the project, with that user's settings."""
    (folder / "samerun.toml").write_text("")
    os.chown(folder / "samerun.toml", 12345, 12345)
    assert user_code.find(folder / "lib" / "helper.py").root == folder / "lib"


def test_project_dir_overrides_and_must_hold_the_script(folder, tmp_path_factory):
    """A mark in between does not count."""
    (folder / "lib" / "pyproject.toml").write_text("")
    given = user_code.find(folder / "lib" / "helper.py", str(folder))
    assert given.target == "/code/lib/helper.py"
    other = tmp_path_factory.mktemp("other")
    with pytest.raises(UsageError, match="does not contain the script"):
        user_code.find(folder / "train.py", str(other))


def test_data_and_results_in_the_project_are_no_code(folder):
    """Unless the script is in them, as with `--data .`."""
    for name in ("photos/1.jpg", "results/run/weights.pth"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text("")
    (folder / "photos-link").symlink_to("photos")
    excluded = [folder / "photos", folder / "results", folder]
    assert names(folder, excluded=excluded) == [".gitignore", "lib/helper.py", "train.py"]


def test_an_ignored_script_is_an_error_before_anything_starts(folder):
    """It would be missing in the image."""
    (folder / ".dockerignore").write_text("train.py\n")
    script = user_code.find(folder / "train.py")
    with pytest.raises(CodeError, match="excluded by an ignore file"):
        user_code.check_included(script, user_code.list_files(script))


def test_an_environment_of_any_name_is_no_code(folder):
    """What `python -m venv` creates says what it is."""
    (folder / "env311" / "lib").mkdir(parents=True)
    (folder / "env311" / "pyvenv.cfg").write_text("")
    (folder / "env311" / "lib" / "x.py").write_text("")
    assert not [name for name in names(folder) if "env311" in name]


def test_submodules_go_in_and_one_that_is_missing_is_an_error(folder, tmp_path_factory):
    """Git lists only their folder."""
    other = tmp_path_factory.mktemp("models")
    (other / "net.py").write_text("")
    (other / "skipped.bin").write_text("")
    (other / ".gitignore").write_text("*.bin\n")
    git(other, "init", "-q")
    git(other, "add", ".")
    git(other, "commit", "-qm", "one")
    git(folder, "init", "-q")
    git(folder, "submodule", "add", "-q", str(other), "models")
    assert "models/net.py" in names(folder)
    assert "models/skipped.bin" not in names(folder)

    git(folder, "submodule", "deinit", "-f", "models")
    with pytest.raises(CodeError, match=r"submodule .*models is not checked out") as error:
        names(folder)
    assert "git submodule update --init" in error.value.remedy


@pytest.mark.parametrize(("here", "there"), [("lib", "/code/lib"), (".", "/code"), ("..", "/code")])
def test_relative_reads_are_those_of_the_folder_in_which_the_user_is(
    folder, monkeypatch, here, there
):
    """Outside of the project, those of the project."""
    monkeypatch.chdir(folder / here)
    assert user_code.find(folder / "train.py").working_folder == there
