import dataclasses
import hashlib
import re
import subprocess
from pathlib import Path

import pytest

from samerun.core import contract
from samerun.core.errors import Irreproducible, UsageError
from samerun.core.nvidia_smi import Gpu
from samerun.core.record import Launch, Mount, Round
from samerun.host.image import resolve
from samerun.host.launch import request
from samerun.host.machine import gpus
from samerun.host.reproduce import rebuild, replay, requirements, traces
from samerun.host.reproduce.find_run import FoundRun
from samerun.host.reproduce.options import ReproduceOptions
from samerun.host.tracking import records

ZEROS = "sha256:" + "0" * 64


def found(run, folder=None, **changes):
    run = dataclasses.replace(run, **changes)
    return FoundRun(trace=traces.trace_of(run, b""), link=run.name, folder=folder)


def code(run, **changes):
    return dataclasses.replace(run.code, **changes)


def test_threads_and_mode_of_the_original_are_set_again(run):
    """And what --env gave, and variables that results depend on: a record can set no others."""
    told = {"OMP_NUM_THREADS": "3", "NCCL_ALGO": "Ring", "LD_PRELOAD": "/output/evil.so"}
    given = {"STYLE": "a b", contract.ENV_VARIABLES: "STYLE", "NCCL_PROTO": "LL"}
    first = dataclasses.replace(
        run,
        environment={"variables": told | {"MKL_CBWR": "AVX2", "NVIDIA_TF32_OVERRIDE": "0"}},
        determinism="fast",
        launch=Launch(
            target="digits",
            environment={contract.ENV_STOP_ON_NAN: "1", "LD_PRELOAD": "x"} | given,
        ),
    )

    assert replay.environment(first) == {
        "OMP_NUM_THREADS": "3",
        "NCCL_ALGO": "Ring",
        "NCCL_PROTO": "LL",
        "MKL_CBWR": "AVX2",
        "NVIDIA_TF32_OVERRIDE": "0",
        "STYLE": "a b",
        contract.ENV_VARIABLES: "STYLE",
        contract.ENV_FAST: "1",
        contract.ENV_STOP_ON_NAN: "1",
    }


def test_a_run_of_this_machine_goes_to_no_project_of_its_record(run, monkeypatch):
    """Only a run that was found in W&B has a place there that is known to be right."""
    monkeypatch.delenv("WANDB_TAGS", raising=False)
    place = records.Path(entity="ent", project="proj", id="x")
    here = replay.asked(found(run), ReproduceOptions())
    there = replay.asked(
        dataclasses.replace(found(run), link=str(place), wandb=place), ReproduceOptions()
    )

    assert (here.entity, here.project, here.tags) == (None, None, "reproduces:digits-1")
    assert (there.entity, there.project) == ("ent", "proj")
    assert there.tags == "reproduces:ent/proj/x"


def test_seed_processes_command_and_memory_are_those_of_the_record(run):
    """What `invoke train` would have been asked for."""
    asked = replay.asked(found(run), ReproduceOptions())

    assert (asked.seed, asked.procs, asked.shm_size) == (1, 2, "1g")
    assert (asked.target, asked.arguments) == ("digits", ("--epochs", "1"))


def test_names_and_tags_fit_whatever_the_original_is_called(run):
    """A name fits a folder, a tag fits W&B's 64 characters."""
    long = dataclasses.replace(found(run, name="n" * 100), link="e/" + "p" * 100 + "/i")

    asked = replay.asked(long, ReproduceOptions())

    request.check_request(asked)
    assert len(asked.tags) == contract.TAG_LIMIT


def test_a_record_can_lead_to_no_other_folder(run):
    """Its name may come from W&B: what is no name is refused."""
    asked = replay.asked(found(run, name="../../etc"), ReproduceOptions())

    with pytest.raises(UsageError, match="Invalid value for --name"):
        request.check_request(asked)


@pytest.mark.parametrize("text", ["x", "-1", "nan", ""])
def test_what_is_no_tolerance_is_refused(text):
    """It would end every run as different, or none."""
    with pytest.raises(UsageError, match="tolerance"):
        ReproduceOptions(tolerance=text).largest_difference()


def test_an_image_is_looked_for_by_digests_alone(image):
    """Never by a tag; and at registries only by names that have a host."""
    named = dataclasses.replace(
        image,
        repo_digests=("samerun:latest", f"127.0.0.1:5000/team/x@{ZEROS}"),
        config_digest="sha256:" + "d" * 64,
    )

    references = list(resolve.local_names(named))

    assert references[0] == image.reference
    assert all(re.search(r"sha256:[0-9a-f]{64}$", reference) for reference in references)
    assert resolve.sources(named) == (f"127.0.0.1:5000/team/x@{ZEROS}",)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, None),
        ({"layers_digest": ZEROS}, "its layers are"),
        ({"manifest_digest": ZEROS}, "its manifest digest is"),
        ({"config_digest": ZEROS}, "its config digest is"),
        # Compressed anew: content and settings are the same.
        ({"config_digest": "sha256:" + "d" * 64, "manifest_digest": ZEROS}, None),
        ({"manifest_digest": None}, None),
    ],
)
def test_an_image_is_held_against_its_record(image, changes, told):
    """Layers decide, then the config, and the manifest where no config is known."""
    wanted = dataclasses.replace(image, config_digest="sha256:" + "d" * 64)
    if "config_digest" not in changes:
        wanted = image
    problem = resolve.mismatch(wanted, dataclasses.replace(image, **changes))

    assert problem is None if told is None else told in problem


@pytest.fixture
def mounted(run, tmp_path):
    """A run from a repository with one commit and a patch over it."""
    repository = tmp_path / "repository" / "code"
    repository.mkdir(parents=True)
    (repository / "a.py").write_text("one\n")
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"]):
        git(repository.parent, *command)
    (repository / "a.py").write_text("two\n")
    patch = git(repository, "diff", "--binary", "HEAD", "--", ".")
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / contract.PATCH).write_bytes(patch)
    return found(
        run,
        folder=folder,
        code=code(
            run,
            kind="script",
            target="code/a.py",
            where="mounted",
            git_commit=git(repository, "rev-parse", "HEAD").decode().strip(),
            git_dirty=True,
            patch_sha256=hashlib.sha256(patch).hexdigest(),
        ),
        launch=Launch(target="/code/a.py", mounts=(Mount(source=str(repository), target="/code"),)),
    )


def git(folder, *arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.invalid"]
    command = ["git", *identity, *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True).stdout


def test_mounted_code_is_laid_out_as_it_ran(mounted, tmp_path):
    """Commit and patch, whatever lies in the checkout today, and nothing left in git."""
    (rebuild.mounted_folder(mounted.run) / "a.py").write_text("three\n")
    (tmp_path / "out").mkdir()

    folder = rebuild.lay_out(rebuild.source(mounted), tmp_path / "out")

    assert (folder / "a.py").read_text() == "two\n"
    assert git(tmp_path / "repository", "worktree", "list").count(b"\n") == 1


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"git_commit": None}, "not in a git repository"),
        ({"git_commit": "--output=/tmp/x"}, "not in a git repository"),
        ({"git_commit": "0" * 40}, "does not have the commit"),
        ({"patch_sha256": None}, "not tracked"),
        ({"patch_sha256": "0" * 64}, "not the patch of the record"),
    ],
)
def test_mounted_code_that_is_not_at_hand_is_refused(mounted, changes, told):
    """Each reason is told; a commit that is none never reaches git."""
    other = found(
        mounted.run, folder=mounted.folder, code=dataclasses.replace(mounted.run.code, **changes)
    )

    with pytest.raises(Irreproducible, match=told):
        rebuild.source(other)


def test_a_patch_that_only_another_machine_has_is_refused(mounted, monkeypatch, tmp_path):
    """W&B holds the record, not the patch."""
    monkeypatch.chdir(tmp_path / "repository")
    with pytest.raises(Irreproducible, match="the machine that ran it"):
        rebuild.source(dataclasses.replace(mounted, folder=None))


def test_code_of_a_record_from_wandb_comes_from_the_current_repository(
    mounted, monkeypatch, tmp_path
):
    """Never from a folder that only the record names."""
    clean = dataclasses.replace(mounted.run.code, git_dirty=False, patch_sha256=None)
    there = found(mounted.run, code=clean)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Irreproducible, match="not in a git repository"):
        rebuild.source(there)
    monkeypatch.chdir(tmp_path / "repository")
    (tmp_path / "out").mkdir()

    folder = rebuild.lay_out(rebuild.source(there), tmp_path / "out")

    assert (folder / "a.py").read_text() == "one\n"


def test_git_never_runs_in_a_folder_that_a_run_wrote(mounted):
    """Its configuration is code."""
    repository = rebuild.mounted_folder(mounted.run)
    (repository.parent / contract.RECORD).write_text("{}")

    with pytest.raises(Irreproducible, match="output of a run"):
        rebuild.source(mounted)
    with pytest.raises(Irreproducible, match="output of a run"):
        replay.today(mounted)


def test_no_filter_of_the_repository_is_run(mounted, tmp_path):
    """A checkout, or `git archive`, would run it."""
    root = tmp_path / "repository"
    git(root, "config", "filter.x.smudge", f"sh -c 'touch {tmp_path}/PWNED; cat'")
    (root / ".gitattributes").write_text("* filter=x\n*.csv export-ignore\n")
    (root / "code" / "names.csv").write_text("x")
    (root / "code" / "data").symlink_to("/mnt/data")
    git(root, "add", ".")
    git(root, "commit", "-qm", "y")
    commit = git(root, "rev-parse", "HEAD").decode().strip()
    code = dataclasses.replace(
        mounted.run.code, git_commit=commit, git_dirty=False, patch_sha256=None
    )
    (tmp_path / "out").mkdir()

    folder = rebuild.lay_out(
        rebuild.source(found(mounted.run, folder=mounted.folder, code=code)), tmp_path / "out"
    )

    assert not (tmp_path / "PWNED").exists()
    assert (folder / "names.csv").read_text() == "x"
    assert (folder / "data").readlink() == Path("/mnt/data")


def test_data_of_a_record_from_wandb_have_to_be_named(run, tmp_path):
    """A record from elsewhere must not open a folder of this machine."""
    folder = tmp_path / "data"
    folder.mkdir(mode=0o755)
    (folder / "a").write_text("a")
    here = dataclasses.replace(run.data[0], source=str(folder))
    there = found(run, data=(here,))

    def need(original, given):
        options = ReproduceOptions(data=(given,) if given else ())
        (need,), _ = requirements._all_data(original, options)
        return need

    assert need(there, None).state == "missing"
    assert need(there, None).blocks(anyway=True)
    assert not need(there, str(folder)).blocks(anyway=True)
    assert not need(found(run, folder=tmp_path, data=(here,)), None).blocks(anyway=True)
    assert need(found(run, folder=tmp_path, data=(here,)), None).blocks(anyway=False)


def test_absent_data_passes_for_nobody(run, tmp_path):
    """There is nothing to train on."""
    gone = dataclasses.replace(run.data[0], source=str(tmp_path / "gone"))

    original = found(run, folder=tmp_path, data=(gone,))
    (need,), data = requirements._all_data(original, ReproduceOptions())

    assert (need.state, data) == ("missing", ())
    assert need.blocks(anyway=True)


def test_fewer_gpus_than_there_were_stand_in_the_way(run, monkeypatch):
    """Nothing falls back to the CPU in silence; `all` means as many as there were."""
    card = Gpu(index=0, name="H200", driver="580.95", capability="9.0")
    was = dataclasses.replace(run.hardware, gpus=("H200 (9.0)", "H200 (9.0)"))
    two = found(run, hardware=was, topology=dataclasses.replace(run.topology, gpus="all"))
    monkeypatch.setattr(gpus, "look", lambda: gpus.Present(gpus=(card,)))
    _, one = requirements._device(two, None)
    both = gpus.Present(gpus=(card, dataclasses.replace(card, index=1)))
    monkeypatch.setattr(gpus, "look", lambda: both)
    selection, both = requirements._device(two, None)

    assert (one.state, both.state) == ("missing", "here")
    assert len(selection.gpus) == 2


def test_a_run_of_several_machines_is_made_again_by_as_many_processes_on_one(run, monkeypatch):
    """What decides is their number; GPUs have to be as many as all machines had together."""
    topology = dataclasses.replace(run.topology, nodes=2, procs=2)
    cards = [Gpu(index=n, name="H200", driver="580.95", capability="9.0") for n in range(4)]
    was = dataclasses.replace(run.hardware, gpus=("H200 (9.0)", "H200 (9.0)"))
    with_gpus = found(run, hardware=was, topology=dataclasses.replace(topology, procs=2, gpus="2"))

    _, need = requirements._device(found(run, topology=topology), None)
    assert need.state == "here"
    assert "4 processes, originally on 2 machines" in need.detail
    assert replay.asked(found(run, topology=topology), ReproduceOptions()).procs == 4
    monkeypatch.setattr(gpus, "look", lambda: gpus.Present(gpus=tuple(cards[:2])))
    assert requirements._device(with_gpus, None)[1].state == "missing"
    monkeypatch.setattr(gpus, "look", lambda: gpus.Present(gpus=tuple(cards)))
    assert len(requirements._device(with_gpus, None)[0].gpus) == 4


@pytest.mark.parametrize(
    ("changes", "rounds", "said"),
    [
        ({"nodes": 2, "node_rank": 1}, (), "record of node 1"),
        ({"nodes": 2}, (Round(nodes=(0, 1)), Round(nodes=(0,))), "2, then 1"),
    ],
)
def test_what_no_run_of_one_machine_gives_again_is_refused(run, changes, rounds, said):
    """A node without results, and a job whose nodes changed while it trained."""
    topology = dataclasses.replace(run.topology, **changes)
    _, need = requirements._device(found(run, topology=topology, rounds=rounds), None)

    assert need.state == "missing"
    assert said in need.detail


def test_another_machine_is_warned_of(run):
    """GPU, driver, CPU and cores, before hours are spent."""
    hardware = dataclasses.replace(
        run.hardware, gpus=("H200 (9.0)",), driver="1.0", cpu="another", cores=10_000
    )

    lines = "\n".join(requirements.warnings(found(run, hardware=hardware), gpus.CPU))

    for text in ("H200", "1.0", "another", "10000"):
        assert text in lines


def test_all_reasons_are_told_at_once(run):
    """Whoever fetches one thing should not learn of the next an hour later."""
    blocking = tuple(
        requirements.Requirement(
            subject=s, state="missing", detail=f"{s} is gone", remedy=f"get {s}"
        )
        for s in ("image", "data")
    )

    with pytest.raises(
        Irreproducible, match=r"(?s)image is gone.*data is gone.*get image.*get data"
    ):
        requirements.refuse(blocking, anyway=True)


def test_without_a_result_there_is_nothing_to_compare(run):
    """A run that was killed in its first epoch; --anyway trains all the same."""
    (need,) = requirements._result(found(run))

    assert need.blocks(anyway=False)
    assert not need.blocks(anyway=True)
    assert list(requirements._result(found(run, result={"weights_sha256": "w"}))) == []


def test_the_code_of_today_is_recorded_as_what_it_is(mounted):
    """With --anyway: commit and patch of the folder, never those of the original."""
    folder = rebuild.mounted_folder(mounted.run)
    (folder / "a.py").write_text("three\n")
    nothing = requirements.Requirements(needs=(), data=(), selection=gpus.CPU, source=None)

    ran, patch = replay._ran(mounted, nothing, folder)
    rebuilt = dataclasses.replace(nothing, source=rebuild.source(mounted))

    assert b"+three" in patch
    assert ran.patch_sha256 == hashlib.sha256(patch).hexdigest()
    assert replay._ran(mounted, rebuilt, folder)[0] == mounted.run.code
