import pytest

from samerun.core.record import Base
from samerun.host.image import build, buildkit
from samerun.host.image.buildkit import Build

BASE = Base(reference="base@sha256:1", origin="pulled")


def test_build_carries_what_the_image_is_made_of(project):
    """Labels hold inputs, lock and base, so that an image is told apart without starting it."""
    plan = build.plan(project, "base:tag", BASE, "12", no_cache=False)

    assert plan.labels["io.samerun.base"] == "base@sha256:1"
    assert plan.arguments == {
        "BASE": "base:tag",
        "BASE_ORIGIN": "pulled",
        "BASE_REFERENCE": "base@sha256:1",
        "CUDA": "cuda12",
        "SOURCE_DATE_EPOCH": "315532800",
    }


def test_provenance_is_off_with_buildx_and_unknown_without():
    """Provenance would give every build another digest; CLI 20.10 does not know the flag."""
    plan = Build(context=".", tag="t", metadata="m.json", ca="/ca.pem")

    assert "--provenance=false" in plan.argv(buildx=True)
    assert not {"--provenance=false", "--metadata-file", "--output"} & set(plan.argv(buildx=False))
    assert "id=ca,src=/ca.pem" in plan.argv(buildx=False)


def test_inputs_change_with_base_and_cuda(project):
    """The same sources on another base are another image."""
    other = Base(reference="base@sha256:2", origin="pulled")

    hashes = {build.inputs(project, base, cuda) for base in (BASE, other) for cuda in ("12", "13")}

    assert len(hashes) == 4


def test_host_code_does_not_change_the_image(project, tmp_path):
    """A change of the kit's host side needs no other image."""
    names = {str(p.relative_to(project.root)) for p in project._input_files()}

    assert "src/samerun/core/contract.py" in names
    assert "uv.lock" in names
    assert not [name for name in names if name.startswith("src/samerun/host")]


@pytest.mark.parametrize(
    ("line", "step"),
    [
        ("#7 [image 2/5] RUN --mount=type=bind,x  uv venv", "[image 2/5] RUN uv venv"),
        ("#11 exporting layers", "exporting layers"),
        ("#7 0.531 Downloading torch", None),
        ("#7 DONE 34.6s", None),
    ],
)
def test_steps_are_told_and_noise_is_not(line, step):
    """One line per step of the Dockerfile."""
    assert step == buildkit.describe_step(line)


LOG = (
    """\
#8 4.048 error: Failed to download `x==1`
#8 ERROR: process "/bin/sh -c a very long command" did not complete successfully: exit code: 1
------
 > [image 3/5] RUN --mount=type=bind a very long command:
3.959 Resolved 107 packages in 2.96s
4.048 error: Failed to download `x==1`
4.048   cause: Hash mismatch for `x==1`
------
Dockerfile:40
--------------------
"""
    + "  40 | >>> RUN a very long command\n" * 30
)


def test_failed_build_shows_the_words_of_the_step_that_failed(tmp_path):
    """Not the Dockerfile's text, which BuildKit prints after them."""
    (tmp_path / "log").write_text(LOG)

    text = buildkit._failure(tmp_path / "log")

    assert text.splitlines()[-1] == "  cause: Hash mismatch for `x==1`"
    assert ">>>" not in text
    assert "3.959" not in text


def test_failure_before_any_step_shows_the_end_of_the_log(tmp_path):
    """For instance a base that can't be had."""
    (tmp_path / "log").write_text("#1 resolving\nERROR: no such base\n")

    assert "no such base" in buildkit._failure(tmp_path / "log")


def test_layers_are_kept_elsewhere_where_that_is_asked():
    """For CI, whose machines are new each time; only buildx can."""
    cached = Build(context=".", tag="x", cache="type=registry,ref=host/x:cache")

    line = cached.argv(buildx=True, store="containerd")

    assert line[line.index("--cache-from") + 1] == "type=registry,ref=host/x:cache"
    assert line[line.index("--cache-to") + 1] == "type=registry,ref=host/x:cache,mode=max"
    assert "--cache-from" not in cached.argv(buildx=False)
    assert "--cache-from" not in Build(context=".", tag="x").argv(buildx=True)


def test_an_image_to_compare_is_not_unpacked():
    """To unpack several gigabytes takes a minute; only containers need that."""

    def output(**options):
        line = Build(context=".", tag="x", **options).argv(buildx=True, store="containerd")
        return line[line.index("--output") + 1].split(",")

    assert "unpack=true" in output()
    assert "unpack=false" in output(unpack=False)
