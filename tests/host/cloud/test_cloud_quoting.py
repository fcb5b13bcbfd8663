"""What a user gives stays data in the shell, in systemd, in YAML and in Kubernetes."""

import re
import subprocess
from pathlib import PurePosixPath

import pytest
import yaml
from asking import RENDER, asked
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from samerun.core.errors import UsageError
from samerun.host.cloud import buckets, k8s, pod, request, sky, text, vm
from samerun.host.cloud.request import Location

HOSTILE = (
    *("$(touch ran)", "`touch ran`", "a b", "x\nExecStartPre=/bin/touch ran", '"', "'", "\\n"),
    *("%h", "@USER@", "$(HOME)", "$$", "-x", ": {", "# no", "\ttab", "é\u2028", "\r\n", ""),
)
# Every text that a command line can have.
ANY = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
texts = st.sampled_from(HOSTILE) | ANY
fuzzed = settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
STUBS = """
show() { printf '%s\\0' "$@"; }
mkdir() { show mkdir "$@"; }
git() { show git "$@"; }
rclone() { show "$@"; }
cd() { :; }; flock() { :; }; systemctl() { :; }
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder, in which what a text runs would leave a file."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert list(tmp_path.iterdir()) == [], "a text was run"


def path_of(text):
    """Return an absolute path of a folder named like *text*; there is none."""
    return str(PurePosixPath("/nonexistent", text.replace("/", "_") or "x", "y"))


def shell(script):
    """Run *script* with `show` and the programs that it calls; return all their arguments."""
    done = subprocess.run(["bash", "-c", STUBS + script], capture_output=True, check=True)
    return done.stdout.decode().split("\0")[:-1]


@fuzzed
@given(texts, texts, texts)
@example("$(touch ran)", "x\nExecStartPre=/bin/touch ran", "my runs")
def test_a_vm_trains_with_exactly_what_was_given(here, argument, value, folder):
    """Arguments, W&B's settings and folders arrive as they are; the units have no part of them."""
    given = asked(
        "vm",
        arguments=("--x", argument),
        output=Location(kind="path", name=path_of(folder)),
        data=(Location(kind="path", name=path_of(argument)),),
        settings={"WANDB_NOTES": value},
    )
    started = f"exec {vm.VENV}/bin/invoke"

    found = shell(vm.train(given).replace(started, 'show "$WANDB_NOTES"'))

    assert found[:5] == ["mkdir", "-p", path_of(folder), value, "train"]
    assert found[found.index("--output") + 1] == path_of(folder)
    assert found[found.index("--data") + 1] == path_of(argument)
    assert found[-2:] == ["--x", argument]
    assert "WANDB" not in vm.unit(given)


@fuzzed
@given(texts, texts)
@example("$(touch ran)", "my runs")
def test_a_bucket_and_a_folder_are_one_word_each(here, text, folder):
    """When the run is fetched, and when it is uploaded."""
    bucket = asked("vm", output=Location(kind="s3", name="runs", path=text))
    place = f"{path_of(folder)}/demo"
    remote = f":s3:runs{'/' + text if text else ''}/demo"

    fetched = shell("\n".join(buckets.fetch_run(bucket, place)))
    upload = buckets.upload(bucket, place, "u").replace(f"{place}.snapshot", f"{place}.x")
    uploaded = shell(upload.replace("/run/samerun-upload.lock", "/dev/null"))

    assert fetched[-2:] == [remote, f"{place}.part"]
    assert uploaded == [], "there is no folder yet"


@fuzzed
@given(texts)
@example("--upload-pack=touch ran")
def test_a_vm_clones_and_pulls_exactly_what_was_given(here, text):
    """An address is no option of git, and an image's name no command."""
    image = f"host/{re.sub('[@ ]', '_', text)}@sha256:{'a' * 64}"
    script = vm.prepare(asked("vm", source=text, image=image))
    for program, stub in (("invoke", "show"), ("pip", ":")):
        script = script.replace(f"{vm.VENV}/bin/{program}", stub)

    found = shell(script.replace(f"python3 -m venv {vm.VENV}", ":"))

    assert found[:5] == ["git", "clone", "--", text, vm.CHECKOUT]
    assert found[-2:] == ["pull", image]


@fuzzed
@given(texts, texts)
@example("@USER@ @@FOLDER@@", "@RANK@")
def test_skypilot_starts_exactly_what_was_given(here, argument, value):
    """A text that looks like a placeholder is not filled in."""
    given = asked("sky", arguments=(argument,), settings={"WANDB_NOTES": value}, nodes=2)
    known = 'docker=show uid=7 gid=8 folder="/a b" netrc=/n SKYPILOT_NODE_RANK=1 head=h\n'

    found = shell(known + sky.command(given))

    assert found[-1] == argument
    assert f"--env=WANDB_NOTES={value}" in found or not value.strip()
    assert "--user=7:8" in found
    assert "--mount=type=bind,source=/a b,target=/output" in found
    assert "--env=SAMERUN_NODE_RANK=1" in found


def expand(text, known):
    """Do as Kubernetes does: ``$(NAME)`` of a known name is its value, and ``$$`` is ``$``."""
    return re.sub(
        r"\$\$|\$\((.*?)\)",
        lambda match: "$" if match[0] == "$$" else known.get(match[1], match[0]),
        text,
        flags=re.DOTALL,
    )


@fuzzed
@given(texts, texts)
@example("$(WANDB_NAME)", "$$(x) $$")
def test_kubernetes_expands_nothing(argument, value):
    """Neither in arguments nor in variables."""
    given = asked("k8s", arguments=(argument,), settings={"WANDB_NOTES": value})
    (container,) = pod.template(given, "training", None)["spec"]["containers"]
    variables = {entry["name"]: entry.get("value") for entry in container["env"]}
    known = {"WANDB_NAME": "demo", "HOME": "/root"}

    assert expand(container["args"][-1], known) == argument
    assert expand(variables.get("WANDB_NOTES", ""), known) == value


@fuzzed
@given(st.sampled_from(["sky", "k8s", "vm"]), texts, texts)
def test_yaml_holds_what_was_given(engine, argument, value):
    """Read back it is what was written; cloud-init's first line stays."""
    given = asked(engine, arguments=(argument,), settings={"WANDB_NOTES": value})
    written = {
        "sky": lambda one: [sky.task(one)],
        "k8s": k8s.objects,
        "vm": lambda one: [vm.document(one)],
    }

    rendered = RENDER[engine](given)

    assert list(yaml.safe_load_all(rendered)) == written[engine](given)
    assert (engine == "vm") == rendered.startswith("#cloud-config\n")


@pytest.mark.parametrize("path", ["~you/runs", "-x"])
def test_a_path_that_programs_read_differently_is_refused(path):
    """Another user's home is not known here, and a dash begins an option."""
    with pytest.raises(UsageError, match="--output"):
        request.parse_place("--output", path)


def test_home_of_a_vm_is_roots():
    """The shell and `invoke train` get the same path."""
    script = vm.train(asked("vm", output=request.parse_place("--output", "~/runs")))

    assert "mkdir -p /root/runs\n" in script
    assert "--output /root/runs" in script


def test_text_that_is_not_utf8_is_refused():
    """YAML can't hold it."""
    with pytest.raises(UsageError, match="UTF-8"):
        request.check_cloud_request(asked("vm", settings={"WANDB_NOTES": "a\udcff"}))


@pytest.mark.parametrize("value", ["\x85", "a\x85b\n", "\u2028", "a\r\nb", "x\u2029\n", "\r"])
def test_yaml_keeps_all_that_it_takes_for_an_end_of_line(value):
    """It reads each of them as a line feed, if they stand there as they are."""
    assert yaml.safe_load(text.write([{"key": value}], "comment")) == {"key": value}
