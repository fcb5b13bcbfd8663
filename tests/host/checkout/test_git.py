"""The state of a checkout is the same whatever the user's git is set to do."""

import os
import subprocess

import pytest

from samerun.host.checkout import git, user_code

LINES = "".join(f"line {i}\n\n" for i in range(40))
SETTINGS = {
    "color.ui": "always",
    "color.diff": "always",
    "core.quotePath": "false",
    "core.pager": "false",
    "diff.algorithm": "histogram",
    "diff.context": "9",
    "diff.dstPrefix": "new/",
    "diff.external": "false",
    "diff.ignoreSubmodules": "all",
    "diff.indentHeuristic": "false",
    "diff.interHunkContext": "30",
    "diff.mnemonicPrefix": "true",
    "diff.noprefix": "true",
    "diff.orderFile": "order.txt",
    "diff.relative": "true",
    "diff.renames": "copies",
    "diff.submodule": "log",
    "diff.suppressBlankEmpty": "true",
    "diff.wsErrorHighlight": "all",
    "core.abbrev": "40",
    "log.showSignature": "true",
    "status.showUntrackedFiles": "no",
    "status.short": "true",
    "status.branch": "true",
}


def run(folder, *arguments):
    line = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *arguments]
    subprocess.run(line, cwd=folder, check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A repository with changes at both ends of a file, a moved file, and a new one in sub/."""
    root, home = tmp_path / "repository", tmp_path / "home"
    (root / "sub").mkdir(parents=True)
    home.mkdir()
    (home / "order.txt").write_text("z*\n")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(home / "config"))
    run(root, "init", "-q")
    (root / "sub" / "train.py").write_text(LINES)
    (root / "sub" / "Ä.py").write_text(LINES)
    (root / "sub" / "z.py").write_text("1\n")
    run(root, "add", ".")
    run(root, "commit", "-qm", "first")
    (root / "sub" / "train.py").write_text(f"first\n{LINES.replace('line 9', 'LINE 9')}last\n")
    (root / "sub" / "Ä.py").rename(root / "sub" / "Ö.py")
    (root / "sub" / "z.py").write_text("2\n")
    run(root, "add", "-N", ".")
    return root / "sub"


@pytest.mark.parametrize("name", SETTINGS)
def test_patch_is_the_same_under_the_users_configuration(checkout, name):
    before = git.state_of(checkout)
    run(checkout, "config", "--global", name, SETTINGS[name])

    assert before.dirty
    assert before.patch.startswith(b"diff --git a/sub/train.py b/sub/train.py")
    assert git.state_of(checkout) == before


def test_new_files_are_changes_also_where_status_hides_them(checkout):
    run(checkout, "add", ".")
    run(checkout, "commit", "-qm", "second")
    run(checkout, "config", "--global", "status.showUntrackedFiles", "no")
    clean = git.state_of(checkout)
    (checkout / "new.py").write_text("1")

    assert not clean.dirty
    assert git.state_of(checkout).dirty


def test_patch_and_files_are_those_of_the_folder_in_a_hook_of_another_repository(
    checkout, tmp_path, monkeypatch
):
    """Git sets variables for its hooks, which name the hook's repository."""
    before, files = git.state_of(checkout), user_code._git_files(checkout)
    other = tmp_path / "other"
    other.mkdir()
    run(other, "init", "-q")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other / ".git" / "index"))
    monkeypatch.setenv("GIT_DIFF_OPTS", "--unified=9")
    monkeypatch.setenv("GIT_EXTERNAL_DIFF", "false")

    assert git.state_of(checkout) == before
    assert user_code._git_files(checkout) == files


def test_no_filter_of_a_repository_runs_and_stored_files_are_as_committed(checkout, tmp_path):
    """Neither a smudge filter, nor a textconv, nor export-subst."""
    root = checkout.parent
    (root / ".gitattributes").write_text("*.py filter=own diff=own export-subst\n")
    (checkout / "train.py").write_text("$Format:%H$\n")
    run(root, "add", ".")
    run(root, "commit", "-qm", "second")
    ran = tmp_path / "ran"
    for name in ("filter.own.smudge", "diff.own.textconv", "diff.own.command"):
        run(root, "config", name, f"touch {ran}; cat")
    state = git.state_of(checkout)
    (entry,) = [one for one in git.tree(root, state.commit) if one.path == "sub/train.py"]

    assert git.blob(root, entry.object_id) == b"$Format:%H$\n"
    assert git.summarize(root, "HEAD~1", "HEAD")
    assert not ran.exists()


@pytest.mark.parametrize("name", ["color.ui", "color.diff", "diff.external", "diff.relative"])
def test_summary_of_commits_has_no_colors_and_all_files(checkout, name):
    run(checkout, "commit", "-qam", "second")
    before = git.summarize(checkout, "HEAD~1", "HEAD")
    run(checkout, "config", "--global", name, SETTINGS[name])

    assert git.summarize(checkout, "HEAD~1", "HEAD") == before
    assert not any("\x1b" in line for line in before)


def test_environment_keeps_what_git_needs(monkeypatch):
    monkeypatch.setenv("GIT_SSH_COMMAND", "ssh -i key")
    monkeypatch.setenv("GIT_DIR", "/elsewhere")

    assert git.environment() == {k: v for k, v in os.environ.items() if k != "GIT_DIR"}
