"""What the host's side makes of a record that a container wrote itself, and knows less by."""

import dataclasses

import pytest

from samerun.core import contract, record
from samerun.core.errors import DataError, Irreproducible
from samerun.core.record import Launch
from samerun.host.checkout.project import DEFAULT_CUDA, tag
from samerun.host.image import identity, resolve
from samerun.host.launch import resume
from samerun.host.launch.request import Request
from samerun.host.machine import gpus, network
from samerun.host.reproduce import causes, compare, requirements, traces
from samerun.host.reproduce.find_run import FoundRun
from samerun.host.reproduce.options import ReproduceOptions
from samerun.host.run import listing, recover, summary, sync


@pytest.fixture
def own(run):
    """The record of a container: it was told its digest, and sees no layers."""
    image = dataclasses.replace(
        run.image, layers_digest="", store="unknown", config_digest=None, index_digest=None
    )
    data = dataclasses.replace(run.data[0], source="s3://photos")
    environment = {contract.ENV_FAST: "1", "WANDB_MODE": "offline"}
    launch = Launch(target="digits", arguments=("--epochs", "1"), environment=environment)
    return dataclasses.replace(
        run,
        image=image,
        data=(data,),
        written_by="container",
        launch=launch,
        unknown=("this", "that"),
    )


def found(run, **changes):
    run = dataclasses.replace(run, **changes)
    return FoundRun(trace=traces.trace_of(run, b""), link=run.name)


def test_an_image_without_layers_is_known_by_its_digest(own, image):
    """The one that the record names, and no other."""
    other = dataclasses.replace(image, digest="f" * 64, manifest_digest=None)

    assert resolve.mismatch(own.image, image) is None
    assert "record says " + "a" * 64 in resolve.mismatch(own.image, other)
    assert identity.same_image(own.image, image) is True
    assert identity.same_image(own.image, other) is None


def test_an_index_s_digest_is_one_of_the_image_s(own, image):
    """A container can't tell what its digest is one of."""
    told = dataclasses.replace(own.image, digest="9" * 64, manifest_digest="sha256:" + "9" * 64)
    pulled = dataclasses.replace(image, index_digest="sha256:" + "9" * 64)

    assert resolve.mismatch(told, pulled) is None


def test_an_image_that_the_record_does_not_name_is_missing(own):
    """It is said why, and what would have told it."""
    nameless = dataclasses.replace(own.image, reference="", digest="", manifest_digest=None)

    need = requirements.missing_image(nameless)

    assert (need.state, need.passable) == ("missing", False)
    assert "names no image" in need.detail
    assert contract.ENV_IMAGE in need.remedy
    assert identity.same_image(nameless, nameless) is None


def test_a_place_that_only_a_container_saw_is_not_looked_for_here(own, tmp_path):
    """A bucket, or a folder of another machine that happens to be here as well."""
    here = dataclasses.replace(own.data[0], source=str(tmp_path))
    (tmp_path / "a.csv").write_text("a")

    for entry in (own.data[0], here):
        (need,), data = requirements._all_data(found(own, data=(entry,)), ReproduceOptions())
        assert (need.state, data) == ("missing", ())
        assert entry.source in need.detail
        assert "--data" in need.remedy


def test_data_without_a_fingerprint_need_a_folder_and_a_word(own, tmp_path):
    """They are not taken for no data, nor for the same."""
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.csv").write_text("a")
    blank = dataclasses.replace(own.data[0], fingerprint=None, files=None, size_bytes=None)
    run = found(own, data=(blank,))

    (unnamed,), _ = requirements._all_data(run, ReproduceOptions())
    (named,), (data,) = requirements._all_data(run, ReproduceOptions(data=(str(folder),)))

    assert unnamed.blocks(anyway=True)
    assert (named.blocks(anyway=False), named.blocks(anyway=True)) == (True, False)
    assert data.entry.source == str(folder)
    assert causes.data(run.run) is None


def test_unknown_values_are_neither_the_same_nor_a_difference(own, run):
    """In a comparison they are told as not known."""
    blank = dataclasses.replace(own.data[0], fingerprint=None)
    nameless = dataclasses.replace(own.image, digest="", manifest_digest=None)
    other = dataclasses.replace(own, data=(blank,), image=nameless)

    rows = {row.subject: row.same for row in compare.differences(run, other)}

    assert (rows["data"], rows["image layers"]) == (None, None)
    assert not causes.given_alike(run, other)
    assert "no recorded fingerprint" in " ".join(causes.of(run, other))


def test_gpus_without_names_do_not_become_the_cpu(own, monkeypatch):
    """As many as the container had, or it is refused."""
    topology = dataclasses.replace(own.topology, gpus="2")
    monkeypatch.setattr(gpus, "look", gpus.Present)

    _, need = requirements._device(found(own, topology=topology), None)

    assert need.state == "missing"


def test_code_that_was_mounted_elsewhere_is_no_folder_here(own):
    """The container's path may be one of this machine as well."""
    mounted = dataclasses.replace(own.code, target="/output/train.py", where="mounted")

    need, source = requirements._code(found(own, code=mounted))

    assert (need.state, need.passable, source) == ("missing", False, None)


def test_a_run_of_another_engine_is_not_ended_from_here(own, tmp_path):
    """Its container is on no engine of this machine, and may well be going on."""
    running = own.with_outcome(state="running")
    record.write(tmp_path, running)

    assert not recover.is_open(running)
    assert recover.settle(None, tmp_path) == running
    assert listing.settled(None, tmp_path).outcome.state == "running"


def test_the_line_to_run_it_again_leaves_the_folder_open(own):
    """The place of the data is the container's, so the user fills it in."""
    nowhere = dataclasses.replace(own.data[0], source="")

    words = summary.again(dataclasses.replace(own, data=(nowhere,)))

    assert "--data FOLDER" in words


def test_all_that_is_unknown_is_shown(own, tmp_path):
    """A sentence a line; and no line to run it again in an image that nobody knows."""
    nameless = dataclasses.replace(own.image, reference="", digest="")

    shown = summary.summarize(dataclasses.replace(own, image=nameless), tmp_path)

    assert "unknown this\n" in shown
    assert "unknown that" in shown
    assert "again   unknown, because the image is unknown" in shown


def test_what_a_container_recorded_of_itself_is_resumed(own, image, tmp_path):
    """Target, arguments and variables; the network is samerun's."""
    asked = Request(resume="x")
    plan = resume.plan(asked, own, image, (), tmp_path, gpus.CPU, has_key=False)

    assert (plan.target, plan.arguments) == ("digits", ("--epochs", "1"))
    assert plan.environment[contract.ENV_FAST] == "1"
    assert plan.network == network.NAME
    assert resume.is_offline(own)


def test_data_that_nobody_knows_are_not_gone_on_with(own):
    """A run of two contents would be nobody's."""
    blank = dataclasses.replace(own.data[0], fingerprint=None)

    with pytest.raises(DataError, match="fingerprint"):
        resume.find_data((blank,), Request(resume="x", data=("/tmp",)))
    with pytest.raises(DataError, match="s3://photos"):
        resume.find_data(own.data, Request(resume="x"))


def test_a_run_without_an_image_is_not_gone_on_with(own):
    """In another one it would be another run."""
    nameless = dataclasses.replace(own.image, reference="", pull_reference=None)

    with pytest.raises(Irreproducible, match="names no image"):
        resume.find_image(None, dataclasses.replace(own, image=nameless), print)


def test_wandb_s_files_are_sent_by_any_image_of_the_kit(own, monkeypatch):
    """Where the record names none: nothing is trained in it."""
    asked = []

    def identify(client, reference):
        asked.append(reference)
        return own.image

    monkeypatch.setattr(sync.identity, "identify", identify)
    nameless = dataclasses.replace(own.image, reference="")
    sync._image(None, own)
    sync._image(None, dataclasses.replace(own, image=nameless))

    assert asked == [own.image.reference, tag(DEFAULT_CUDA)]
