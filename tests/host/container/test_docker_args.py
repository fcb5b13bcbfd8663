import re

import pytest

from samerun.core.errors import UsageError
from samerun.core.record import Mount
from samerun.host.container import docker_args
from samerun.host.container.spec import ContainerSpec


@pytest.mark.parametrize(
    ("given", "passed"),
    [
        ("--cpus=2", "--cpus=2"),
        ("--cpus 1.5", "--cpus=1.5"),
        ("--cpuset-cpus=0-3,6", "--cpuset-cpus=0-3,6"),
        ("--ulimit=nofile=65535:65535", "--ulimit=nofile=65535:65535"),
        ("--ulimit core=0", "--ulimit=core=0"),
        ("--ulimit=memlock=-1", "--ulimit=memlock=-1"),
        ("--hostname=node-1.example", "--hostname=node-1.example"),
        ("--dns=2001:db8::1", "--dns=2001:db8::1"),
        ("--add-host=wandb.local:192.0.2.7", "--add-host=wandb.local:192.0.2.7"),
        ("--add-host=wandb.local:2001:db8::1", "--add-host=wandb.local:2001:db8::1"),
        ("--label=team=vision and more", "--label=team=vision and more"),
        ("--runtime=runsc", "--runtime=runsc"),
        ("--oom-score-adj=1000", "--oom-score-adj=1000"),
        ("--memory-reservation=4g", "--memory-reservation=4g"),
    ],
)
def test_plain_flags_are_passed_on_in_one_piece(given, passed):
    """Both spellings; flag and value stay one argument."""
    assert (passed,) == docker_args.parse([given])


@pytest.mark.parametrize(
    "given",
    [
        "--privileged", "--privileged=true", "--cap-add=SYS_ADMIN", "--cap-add ALL",
        "--device=/dev/sda", "--device-cgroup-rule=b *:* rwm", "--pid=host", "--ipc=host",
        "--uts=host", "--userns=host", "--cgroupns=host", "--cgroup-parent=/", "--network=host",
        "--net=host", "--user=0", "--user 0:0", "--group-add=docker", "--volume=/:/host",
        "--volume=/var/run/docker.sock:/s", "--mount=type=bind,source=/etc,target=/x",
        "--volumes-from=other", "--tmpfs=/opt", "--security-opt=seccomp=unconfined",
        "--security-opt apparmor=unconfined", "--security-opt=no-new-privileges=false",
        "--env=WANDB_API_KEY=x", "--env-file=/etc/shadow", "--entrypoint=sh", "--restart=always",
        "--publish=80:80", "--sysctl=kernel.msgmax=1", "--oom-kill-disable", "--link=db",
        "--log-driver=syslog", "--cidfile=/etc/cron.d/x", "--label-file=/etc/shadow",
        "--use-api-socket", "--annotation=a=b", "--read-only=false", "--init=false",
        "--memory=1g", "--pids-limit=-1", "--gpus=all", "--name=x", "--shm-size=1g",
        "--storage-opt=size=1", "--ip=10.0.0.2", "--workdir=/", "--pull=always",
    ],
)  # fmt: skip
def test_dangerous_flags_are_refused_with_a_reason_of_their_own(given):
    """Not just "unknown": each says what it would do, or what to use instead."""
    flag = re.match(r"--[a-z-]+", given)[0]

    with pytest.raises(UsageError) as caught:
        docker_args.parse([given])

    assert docker_args.REFUSED[flag] in caught.value.what
    assert "is not in the list" not in caught.value.what


@pytest.mark.parametrize(
    "given",
    [
        # Spellings that Docker takes, or that one might hope get through.
        "-v/:/host", "-v", "-u0", "-e A=b", "-it", "-m 1g", "-", "--", "---cpus=2", "",
        "--priv", "--privilege", "--cpu=2", "--CPUS=2", "--Privileged", "--cap_add=ALL",
        "cpus=2", " --cpus=2", "\t--cpus=2", "\n--privileged", "—privileged", "\u2212\u2212cpus=2",
        "--cpus\t2", "--cpus\n2", "--cpus:2", "--cpus==2", "--cpus\x00=2", "--\u0441pus=2",
        "--unknown-flag=1", "samerun:evil", "--cpus=2;--privileged",
        # A second flag in the value of the first.
        "--cpus=2 --privileged", "--cpus 2 --privileged", "--cpus=2\n--privileged",
        "--cpus=2\x00--privileged", "--cpus=--privileged", "--cpus --privileged",
        "--label=a=b\n--privileged", "--label=a=b\x00", "--hostname=-v", "--hostname=--pid=host",
        # Values that are no values.
        "--cpus", "--cpus=", "--cpus ", "--cpus=-1", "--cpus=1e9", "--cpus=٣", "--cpus=2\n",
        "--cpus=2.", "--cpuset-cpus=a", "--ulimit=rtprio=99", "--ulimit=nofile",
        "--ulimit=nice=-20",
        "--oom-score-adj=-1000", "--oom-score-adj=1001", "--dns=host-gateway", "--dns=1.2.3",
        "--add-host=x:host-gateway", "--add-host=x", "--add-host=:1.2.3.4", "--add-host=x:1:2",
        # A runtime by its path is a program that the engine starts as root.
        "--runtime=/tmp/evil", "--runtime=../evil", "--runtime=io.containerd.evil.v1",
        # Labels that steer other programs on this host.
        "--label=traefik.enable=true", "--label=com.docker.x=1", "--label=io.samerun.run=other",
        "--label=x", "--label==x",
    ],
)  # fmt: skip
def test_hostile_spellings_do_not_get_through(given):
    """Whatever is not one listed flag with one plain value is refused."""
    with pytest.raises(UsageError):
        docker_args.parse([given])


@pytest.mark.parametrize("second", ["--cpus=3", "--cpus 3", "--cpus=2"])
def test_a_flag_twice_is_refused(second):
    """Docker would take the last one in silence."""
    with pytest.raises(UsageError, match="twice"):
        docker_args.parse(["--cpus=2", second])


def test_lists_may_have_several_members():
    """Flags that Docker itself collects."""
    given = ("--ulimit=core=0", "--ulimit=nofile=1024")

    assert given == docker_args.parse(given)


def test_kits_own_flags_can_never_be_given_again():
    """What the launch sets is in the list of refusals, and in no other."""
    launch = ContainerSpec(
        run="r", image="i", user="1:1", target="t", arguments=(), procs=1, seed=1, shm_size="1g",
        mounts=(Mount(source="/a", target="/b"),), environment={"A": "1"}, gpus="all",
        network="none", memory="1g",
    )  # fmt: skip
    own = {word.partition("=")[0] for word in launch.argv() if word.startswith("--")}
    own -= {"--procs", "--seed"}  # the entry's own

    repeated = own & set(docker_args.ALLOWED)
    assert repeated - set(docker_args.REPEATABLE) == set()
    assert own - repeated <= set(docker_args.REFUSED)
    assert set(docker_args.ALLOWED) & set(docker_args.REFUSED) == set()


def test_arguments_reach_the_command_before_the_image():
    """After it they would be the training's."""
    launch = ContainerSpec(
        run="r", image="the-image", user="1:1", target="t", arguments=("--cpus=9",), procs=1,
        seed=1, shm_size="1g", mounts=(), docker_args=("--cpus=2",),
    )  # fmt: skip
    argv = launch.argv()

    assert argv.index("--cpus=2") < argv.index("the-image") < argv.index("--cpus=9")
