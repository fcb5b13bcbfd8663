"""How an end is told from a failure, when a run starts again, and what a resume takes over."""

import dataclasses
import os

import pytest

from samerun.core import checkpoint_policy, contract, lifecycle, record
from samerun.core.errors import OutputError, RecordError, RunBusy, UsageError
from samerun.core.lifecycle import Ending
from samerun.core.record import Launch, Mount
from samerun.host.container.process import with_key
from samerun.host.launch import restart, resume
from samerun.host.launch.request import Request
from samerun.host.machine import gpus
from samerun.host.run import folders, integrity, recover, summary


def ended(run, code, **facts):
    run = lifecycle.close(run, Ending(exit_code=code, duration_s=1, **facts))
    return run.outcome.state, run.outcome.reason


@pytest.mark.parametrize(
    ("code", "more", "expected"),
    [
        (0, {}, ("finished", None)),
        (1, {}, ("failed", None)),
        (75, {}, ("preempted", "SIGTERM")),
        (75, {"stopped_by": "SIGINT"}, ("preempted", "SIGINT")),
        (143, {"stopped_by": "SIGINT"}, ("stopped", "SIGINT")),
        (137, {}, ("killed", "SIGKILL")),
        (137, {"out_of_memory": True}, ("killed", "out of memory")),
        (255, {"engine_lost": True}, ("killed", "the engine restarted")),
        (255, {}, ("failed", None)),
        (137, {"removed": True}, ("killed", "the container was removed")),
        (112, {}, ("failed", None)),
        (0, {"out_of_memory": True}, ("finished", None)),
        (75, {"signal": "SIGINT"}, ("preempted", "SIGINT")),
        (1, {"disk_full": True}, ("failed", "the disk of the output is full")),
        (1, {"missing_data": "/data"}, ("failed", "the data vanished: /data")),
        (105, {}, ("killed", "a node was lost")),
    ],
)
def test_ending_is_told_by_code_and_surroundings(running, code, more, expected):
    """Exit code, the engine's word and the user's own stop, each for what it is."""
    assert ended(running, code, **more) == expected


def test_duration_is_that_of_all_starts(running):
    """A run that was interrupted has spent the time of every start."""
    for _ in range(2):
        running = lifecycle.close(running, Ending(exit_code=75, duration_s=1.5))
        running = lifecycle.restarted(running)

    assert running.outcome.duration_s == 3
    assert (running.outcome.restarts, running.outcome.exit_code) == (2, None)


@pytest.mark.parametrize(
    ("state", "reason", "again"),
    [
        ("preempted", "SIGTERM", True),
        ("killed", "SIGKILL", True),
        ("killed", "the engine restarted", True),
        ("killed", "out of memory", False),
        ("failed", None, False),
        ("stopped", "SIGINT", False),
        ("finished", None, False),
    ],
)
def test_only_what_came_from_outside_is_started_again(run, tmp_path, state, reason, again):
    """A failure of its own would only come again."""
    run = run.with_outcome(state=state, reason=reason)

    assert (restart.Restarts(1, tmp_path).refusal(run) is None) == again


def test_restarts_are_counted_and_need_progress(run, tmp_path):
    """No more than asked for; three starts without a checkpoint end it before that."""
    killed = run.with_outcome(state="killed", reason="SIGKILL")
    policy = restart.Restarts(2, tmp_path)
    assert [policy.refusal(killed) is None for _ in range(3)] == [True, True, False]

    stuck = restart.Restarts(9, tmp_path)
    assert [stuck.refusal(killed) is None for _ in range(3)] == [True, True, False]
    (tmp_path / contract.CHECKPOINTS).mkdir()
    torn = restart.Restarts(9, tmp_path)
    for n in range(2):
        (tmp_path / contract.CHECKPOINTS / f".writing-{n}").touch()
        assert torn.refusal(killed) is None
    (tmp_path / contract.CHECKPOINTS / ".writing-3").touch()
    assert torn.refusal(killed) is not None
    moving = restart.Restarts(9, tmp_path)
    for n in range(6):
        (tmp_path / contract.CHECKPOINTS / f"{n}").touch()
        assert moving.refusal(killed) is None


def test_checkpoints_are_named_in_full():
    """The container reads every number; off is nothing at all."""
    default = checkpoint_policy.variable(contract.DEFAULT_CHECKPOINTS)
    assert default == "epochs=1,batches=0,minutes=10,keep=2"
    named = checkpoint_policy.variable("batches=5, minutes=0.5")
    assert named == "epochs=0,batches=5,minutes=0.5,keep=2"
    assert checkpoint_policy.variable("off") == ""


@pytest.mark.parametrize("text", ["never", "epochs", "epochs=x", "keep=3", "epochs=1,keep=0"])
def test_checkpoints_that_mean_nothing_are_refused(text):
    """Told before anything starts, with an example."""
    with pytest.raises(UsageError, match="checkpoints"):
        checkpoint_policy.Policy.read(text)


@pytest.fixture
def started(run, image):
    """A record as it is after a start."""
    environment = {
        "WANDB_MODE": "offline",
        "WANDB_PROJECT": "p=1",
        contract.ENV_FAST: "1",
        "LD_PRELOAD": "/output/x.so",
        "STYLE": "a b",
        contract.ENV_VARIABLES: "STYLE,LD_PRELOAD",
        "NCCL_P2P_DISABLE": "1",
    }
    launch = Launch(
        target="digits",
        arguments=("--epochs", "1"),
        network="none",
        environment=environment,
        mounts=(Mount(source="/", target="/host"),),
        docker_args=("--privileged",),
    )
    return dataclasses.replace(run, launch=launch, data=())


def make_plan(run, tmp_path, **options):
    asked = Request(target="", resume="x", **options)
    return resume.plan(asked, run, run.image, (), tmp_path, gpus.CPU, has_key=False)


def test_resume_takes_the_recorded_command_over(started, tmp_path):
    """Target, arguments, processes, seed, W&B's settings and switches are those of the record."""
    plan = make_plan(started, tmp_path)

    assert (plan.target, plan.arguments) == ("digits", ("--epochs", "1"))
    assert (plan.procs, plan.seed, plan.image) == (2, 1, started.image.reference)
    assert plan.environment["WANDB_PROJECT"] == "p=1"
    assert plan.environment[contract.ENV_FAST] == "1"
    assert plan.environment["STYLE"] == "a b"
    assert plan.environment["NCCL_P2P_DISABLE"] == "1"
    assert plan.network == "none"


def test_resume_hands_nothing_else_of_the_record_to_the_engine(started, tmp_path):
    """The container could write there: no variable, mount or network of its choosing."""
    launch = dataclasses.replace(started.launch, network="host")
    tampered = dataclasses.replace(started, launch=launch)

    with pytest.raises(UsageError, match="host"):
        make_plan(tampered, tmp_path)
    argv = with_key(make_plan(tampered, tmp_path, network="bridge"), None).argv()
    assert "--privileged" not in argv
    assert "LD_PRELOAD" not in " ".join(argv)
    assert [word for word in argv if word.startswith("--mount")] == [
        f"--mount=type=bind,source={tmp_path},target=/output"
    ]


@pytest.mark.parametrize(
    "option",
    [
        {"seed": 42}, {"gpus": "2"}, {"procs": 2}, {"fast": True}, {"arguments": ("--lr", "1")},
        {"image": "x"}, {"name": "x"}, {"env": ("A=1",)}, {"shm_size": "2g"}, {"cuda": "13"},
        {"mount_code": True}, {"checkpoints": contract.DEFAULT_CHECKPOINTS}, {"target": "digits"},
    ],
)  # fmt: skip
def test_resume_refuses_what_would_change_the_training(option):
    """A usage error that names the option, also where its value is the default."""
    name = next(iter(option))
    word = {"arguments": "-- --lr 1", "target": "target 'digits'"}.get(name, f"--{name}")
    given = frozenset({"resume", *option} - {"arguments"})

    with pytest.raises(UsageError, match=word.replace("_", "-")):
        resume.refuse_changes(Request(given=given, resume="x", **option))


def test_resume_takes_more_room():
    """Memory, network and the place of the data are the machine's, not the training's."""
    resume.refuse_changes(
        Request(target="", resume="x", memory="8g", network="host", data=("d",), restarts=2)
    )


def test_folder_is_held_by_one_command(tmp_path):
    """The second is refused, until the first lets go."""
    with folders.held(tmp_path):
        assert folders.is_held(tmp_path)
        with pytest.raises(RunBusy), folders.held(tmp_path):
            pass
    assert not folders.is_held(tmp_path)


def test_log_is_not_written_through_a_link(tmp_path):
    """The container could lay one in its place before the next start."""
    (tmp_path / "mine").write_text("")
    (tmp_path / contract.LOG).symlink_to(tmp_path / "mine")

    with pytest.raises(OutputError, match="can't be written"):
        folders.open_log(tmp_path, (os.getuid(), os.getgid()))
    assert (tmp_path / "mine").read_text() == ""


@pytest.mark.parametrize(
    ("saved", "whole", "expected"),
    [
        (b"", b"one\ntwo\n", b"one\ntwo\n"),
        (b"one\n", b"one\ntwo\n", b"one\ntwo\n"),
        (b"line 1 of many\nli", b"line 1 of many\nline 2\n", b"ne 2\n"),
        (b"START again\nx\nSTART again and on\nx", b"START again and on\nx\ny\n", b"\ny\n"),
        (b"x" * 40, b"", b""),
    ],
)
def test_rest_of_a_log_follows_what_was_saved(saved, whole, expected):
    """Only what is new is appended; in doubt all of it."""
    assert recover.rest(saved, whole) == expected


def test_summary_tells_failure_and_how_to_go_on(run, tmp_path):
    """The container's own word on a failure; the command that resumes an interrupted run."""
    told = {"kind": "exception", "rank": 1, "what": "ValueError: 2", "where": "train.py:9"}
    failed = run.with_outcome(state="failed", exit_code=1, failure=told)
    preempted = run.with_outcome(state="preempted", exit_code=75, reason="SIGTERM", restarts=1)

    assert "rank 1: exception, ValueError: 2, train.py:9" in summary.summarize(failed, tmp_path)
    assert "--resume" not in summary.summarize(failed, tmp_path)
    text = summary.summarize(preempted, tmp_path)
    assert f"invoke train --resume {tmp_path}" in text
    assert "2 starts" in text


def test_record_that_was_changed_is_not_run_again(started, tmp_path, monkeypatch):
    """The seal is of what was started; how the run went does not break it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    integrity.verify(tmp_path, started)
    integrity.put(tmp_path, started)
    integrity.verify(tmp_path, started.with_outcome(state="killed", restarts=3))
    read = record.from_json(record.to_json(started))
    integrity.verify(tmp_path, read)

    other = dataclasses.replace(started.launch, network="samerun")
    for change in (
        {"launch": other},
        {"written_by": "container"},
        {"determinism": "fast"},
        {"image": dataclasses.replace(started.image, pull_reference="evil@sha256:" + "0" * 64)},
    ):
        with pytest.raises(RecordError, match="changed"):
            integrity.verify(tmp_path, dataclasses.replace(started, **change))
