"""The runs that are there: shown, listed, and what each needs kept."""

import json
import secrets
import shutil

import pytest
from driving import HERE, invoke

from samerun.core import record


@pytest.fixture(scope="module")
def folder(image, tmp_path_factory):
    """A run of a script that no other run has, in an image that no other run needs."""
    place = tmp_path_factory.mktemp("runs")
    (place / "code").mkdir()
    source = (HERE / "script" / "steps.py").read_text()
    (place / "code" / "steps.py").write_text(f"{source}\n# {secrets.token_hex(8)}\n")
    options = ["--gpus", "0", "--output", place / "runs", "--name", "hands-kept"]
    done = invoke("train", place / "code" / "steps.py", *options)
    assert done.returncode == 0, done.stderr
    return place / "runs" / "hands-kept"


def names(client, digest):
    """Return the names of an image that end in twelve digits of its *digest*."""
    tags = [tag for image in client.images.list() for tag in image.tags]
    return [tag for tag in tags if tag.endswith(f":{digest[:12]}")]


def test_run_is_shown_whole(folder):
    """For readers line by line, for machines as the record itself."""
    shown = invoke("show", folder)
    read = json.loads(invoke("show", folder, "--json").stdout)
    (listed,) = json.loads(invoke("runs", "--output", folder.parent, "--json").stdout)
    printed = invoke("logs", folder.name, "--output", folder.parent)

    assert read == json.loads((folder / "run.json").read_text())
    assert f"topology.procs                   {read['topology']['procs']}" in shown.stdout
    assert (listed["name"], listed["state"]) == ("hands-kept", "finished")
    assert listed["digest"] == read["image"]["digest"][:12]
    assert "STEP 5" in printed.stdout


def test_unknown_run_is_told(folder):
    """73, with where it was looked for."""
    for verb in ("show", "logs", "stop"):
        done = invoke(verb, "hands-nothing", "--output", folder.parent)
        assert (done.returncode, "hands-nothing" in done.stderr) == (73, True)


@pytest.mark.alone
def test_image_has_a_name_as_long_as_its_run_is_there(folder, client):
    """`invoke clean` leaves the name alone, until the run's folder is gone."""
    image = record.read(folder).image
    digest = image.digest
    assert len(names(client, digest)) == 1

    kept = invoke("clean", "--output", folder.parent, "--yes")
    assert kept.returncode == 0, kept.stderr
    assert len(names(client, digest)) == 1

    shutil.rmtree(folder)
    asked = invoke("clean", "--output", folder.parent)
    assert "pass --yes" in asked.stdout
    assert len(names(client, digest)) == 1
    # As after a push: the same digits in another repository go along.
    client.images.get(image.reference).tag("samerun-elsewhere", digest[:12])
    dropped = invoke("clean", "--output", folder.parent, "--yes")
    assert dropped.returncode == 0, dropped.stderr
    assert f":{digest[:12]}" in dropped.stdout
    assert names(client, digest) == []
