"""What GitHub, Renovate and pre-commit read of this repository."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import samerun

ROOT = Path(__file__).resolve().parents[2]
GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
FORMS = sorted(
    set((GITHUB / "ISSUE_TEMPLATE").glob("*.yml")) - {GITHUB / "ISSUE_TEMPLATE/config.yml"}
)
FENCED = re.compile(r"^```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SCHEMAS = {
    "vendor.github-workflows": WORKFLOWS,
    "vendor.github-issue-forms": FORMS,
    "vendor.github-issue-config": [GITHUB / "ISSUE_TEMPLATE" / "config.yml"],
    "vendor.renovate": [GITHUB / "renovate.json"],
}


def jobs(name):
    return yaml.safe_load((GITHUB / "workflows" / f"{name}.yml").read_text())["jobs"]


def run_step(job, name, folder, **variables):
    """Run a step of the release's *job* as GitHub's runner does."""
    step = next(step for step in jobs("release")[job]["steps"] if step.get("name") == name)
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", **variables},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("schema", SCHEMAS)
def test_files_fit_their_schema(schema):
    """As check-jsonschema brings it along."""
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *SCHEMAS[schema]],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_by_commit(path):
    """A tag can be moved; beside the commit stands the version that it is."""
    used = re.findall(r"uses: (.+)", path.read_text())

    assert used
    assert [
        line for line in used if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v[\d.]+", line)
    ] == []


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_expressions_reach_no_shell(path):
    """`${{ … }}` in a script would run what a branch's or tag's name holds."""
    steps = [step for job in jobs(path.stem).values() for step in job["steps"]]

    assert [step for step in steps if "${{" in step.get("run", "")] == []


def test_ci_runs_the_test_command_of_the_readme():
    """The workflow calls .ci/run, and that runs what the README says."""
    readme = (ROOT / "README.md").read_text()
    command = next(b for b in re.findall(FENCED, readme) if "setup test" in b)
    script = (ROOT / ".ci" / "run").read_text().splitlines()

    assert [line for line in command.strip().splitlines() if line not in script] == []
    assert any(".ci/run" in step.get("run", "") for step in jobs("ci")["all"]["steps"])


def test_ci_tests_every_python_that_is_promised():
    """The classifiers of pyproject.toml, and no other."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    promised = [c.split(" :: ")[-1] for c in project["classifiers"] if "Python :: 3." in c]

    assert jobs("ci")["fast"]["strategy"]["matrix"]["python"] == promised


@pytest.mark.parametrize(("tag", "code"), [(f"v{samerun.__version__}", 0), ("v99.0.0", 1)])
def test_release_wants_the_tag_to_be_the_version(tag, code):
    """A tag on the wrong commit publishes nothing."""
    done = run_step("packages", "Compare the tag with the version", ROOT, TAG=tag)

    assert done.returncode == code
    assert (tag in done.stdout) == bool(code)


def test_release_notes_are_the_section_of_the_changelog(tmp_path):
    """Of this version, without its heading and without the section below."""
    (tmp_path / "CHANGELOG.md").write_text(
        "## Unreleased\n\n## 1.1.0 - 2027-01-02\n\n- new\n\n## 1.0.0 - 2027-01-01\n\n- old\n"
    )
    name = "Take the release's section out of the changelog"

    done = run_step("packages", name, tmp_path, TAG="v1.1.0")

    assert done.returncode == 0
    assert (tmp_path / "notes.md").read_text().split() == ["-", "new"]
    assert run_step("packages", name, tmp_path, TAG="v2.0.0").returncode == 1


def test_release_signs_and_attests_what_was_pushed():
    """The digest of the push, and nothing that was named by a tag."""
    steps = jobs("release")["image"]["steps"]
    texts = [json.dumps(step) for step in steps]
    at = {
        word: next(i for i, t in enumerate(texts) if word in t)
        for word in ("invoke push", "cosign sign", "attest-build")
    }

    assert at["invoke push"] < at["cosign sign"] < at["attest-build"]
    assert "steps.push.outputs.reference" in texts[at["cosign sign"]]
    assert "steps.push.outputs.digest" in texts[at["attest-build"]]


def test_publishing_needs_image_and_packages_and_no_token():
    """PyPI trusts the workflow; nothing is published if the image fails."""
    job = jobs("release")["pypi"]

    assert job["needs"] == ["packages", "image"]
    assert job["permissions"] == {"id-token": "write"}
    assert "secrets." not in json.dumps(job)


def test_renovate_finds_the_pin_of_the_base():
    """Its expression names image, tag and digest of docker/base.toml."""
    manager = json.loads((GITHUB / "renovate.json").read_text())["customManagers"][0]
    expression = manager["matchStrings"][0].replace("(?<", "(?P<")
    reference = tomllib.loads((ROOT / "docker" / "base.toml").read_text())["pulled"]["reference"]

    found = re.findall(expression, (ROOT / "docker" / "base.toml").read_text())

    assert re.fullmatch(manager["managerFilePatterns"][0].strip("/"), "docker/base.toml")
    assert ["{}:{}@{}".format(*groups) for groups in found] == [reference]


def test_hooks_are_the_tools_of_the_test_extra():
    """No other repository is cloned, and no version stands a second time."""
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    hooks = [hook for repo in config["repos"] for hook in repo["hooks"]]
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    tools = {re.match(r"[\w-]+", line)[0] for line in extra["test"]} | {"python"}

    assert [repo["repo"] for repo in config["repos"]] == ["local"]
    assert {hook["language"] for hook in hooks} == {"system"}
    assert {hook["entry"].split()[0] for hook in hooks} <= tools


def test_pre_commit_takes_its_configuration():
    """By its own schema."""
    done = subprocess.run(
        [sys.executable, "-m", "pre_commit", "validate-config"], cwd=ROOT, check=False
    )

    assert done.returncode == 0
