"""Which variables a run can be given, and what becomes of them in later starts."""

import pytest

from samerun.core import contract, result_variables, user_variables
from samerun.core.errors import UsageError


def test_plain_settings_are_taken_as_typed():
    """The value may hold blanks, quotes, = and a dollar; empty is a value too."""
    given = ("A=1", "LR_NOTE=it's 5 = $x", "EMPTY=", "MAX_TOKENS=512", "TOKENIZERS_PARALLELISM=no")

    assert user_variables.parse(given) == {
        "A": "1",
        "LR_NOTE": "it's 5 = $x",
        "EMPTY": "",
        "MAX_TOKENS": "512",
        "TOKENIZERS_PARALLELISM": "no",
    }


@pytest.mark.parametrize("text", ["A", "=1", "1A=x", "A-B=x", "A B=1"])
def test_another_form_is_refused(text):
    """Also Docker's, a name alone: its value would be unseen on the command line."""
    with pytest.raises(UsageError, match="NAME=VALUE"):
        user_variables.parse([text])


@pytest.mark.parametrize("value", ["a\nb", "a\x00b", "\x1b[2J", "x" * 4097])
def test_a_value_is_one_printable_line(value):
    """It is printed, and written to files of other languages."""
    with pytest.raises(UsageError, match="printable"):
        user_variables.parse([f"A={value}"])


def test_a_variable_is_given_once():
    """Docker would take one of the two."""
    with pytest.raises(UsageError, match="twice"):
        user_variables.parse(["A=1", "A=2"])


@pytest.mark.parametrize(
    "text",
    [
        "HF_TOKEN=x",
        "OPENAI_API_KEY=x",
        "AWS_SECRET_ACCESS_KEY=x",
        "MYAPIKEY=x",
        "DB_PASSWORD=1234",
        "db_password=x",
        "GITHUB_AUTH=x",
        "KEY=x",
        # W&B's, under a name that says nothing.
        "X=" + "0123456789abcdef0123" * 2,
        "X=local-" + "0123456789abcdef0123" * 2,
        "X=https://me:pass@host/x",
        "X=ghp_" + "a" * 36,
        "X=AKIA" + "A" * 16,
        "X=-----BEGIN PRIVATE KEY-----",
    ],
)
def test_what_looks_like_a_secret_is_refused_and_not_repeated(text):
    """The record, W&B and `docker inspect` would show it; the message has the other ways."""
    with pytest.raises(UsageError, match="secret") as told:
        user_variables.parse([text])

    assert "--api-key-file" in str(told.value)
    assert text not in str(told.value)
    assert "0123456789abcdef" not in str(told.value)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("SAMERUN_RECORD", "samerun sets it"),
        ("SAMERUN_GPUS", "samerun sets it"),
        ("WANDB_PROJECT", "your environment"),
        ("WANDB_DIR", "the image sets it"),
        ("HTTPS_PROXY", "your environment"),
        ("http_proxy", "your environment"),
        ("NETRC", "samerun sets it"),
        ("PYTHONHASHSEED", "results depend on it"),
        ("CUBLAS_WORKSPACE_CONFIG", "results depend on it"),
        ("PYTHONPATH", "other than what is recorded"),
        ("PYTHONSTARTUP", "other than what is recorded"),
        ("LD_PRELOAD", "other than what is recorded"),
        ("LD_LIBRARY_PATH", "other than what is recorded"),
        ("PATH", "the image sets it"),
        ("CUDA_VISIBLE_DEVICES", "--gpus"),
        ("NVIDIA_VISIBLE_DEVICES", "--gpus"),
        ("WORLD_SIZE", "--procs"),
        ("LOCAL_RANK", "--procs"),
        ("MASTER_ADDR", "--procs"),
        ("ACCELERATE_USE_CPU", "--gpus"),
        ("NCCL_TUNER_PLUGIN", "a file"),
        ("NCCL_CONF_FILE", "a file"),
        ("NCCL_TOPO_FILE", "a file"),
    ],
)
def test_variables_of_samerun_and_of_its_promise_are_refused_by_name(name, reason):
    """Each with why."""
    with pytest.raises(UsageError, match=f"--env {name} is not allowed: .*{reason}"):
        user_variables.parse([f"{name}=x"])


def test_every_variable_of_the_contract_is_refused():
    """A name that is added later is among them."""
    own = [value for name, value in vars(contract).items() if name.startswith("ENV_")]

    names = (*own, *contract.FORWARDED, *contract.PROXIES)

    assert [name for name in names if not user_variables.objection(name, "x")] == []


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("OMP_NUM_THREADS", "4", "many"),
        ("MKL_NUM_THREADS", "1", "0"),
        ("MKL_CBWR", "AVX2,STRICT", "avx 2"),
        ("ATEN_CPU_CAPABILITY", "avx2", "AVX2!"),
        ("ONEDNN_MAX_CPU_ISA", "AVX2", "a;b"),
        ("NVIDIA_TF32_OVERRIDE", "0", "yes"),
        ("NCCL_ALGO", "allreduce:tree;broadcast:ring", "a b"),
        ("NCCL_P2P_DISABLE", "1", "true"),
        ("CUDA_DEVICE_ORDER", "PCI_BUS_ID", "pci"),
        ("CUDA_LAUNCH_BLOCKING", "1", "on"),
    ],
)
def test_values_that_change_results_are_checked(name, good, bad):
    """A typing error would be recorded as if it had had an effect."""
    assert user_variables.parse([f"{name}={good}"]) == {name: good}
    with pytest.raises(UsageError, match=f"--env {name} is not allowed: {bad!r}"):
        user_variables.parse([f"{name}={bad}"])


HOST = {
    "NCCL_DEBUG": "INFO",
    "NCCL_P2P_DISABLE": "1",
    "NCCL_SOCKET_IFNAME": "=eth0",
    "TORCH_NCCL_BLOCKING_WAIT": "1",
    "GLOO_SOCKET_IFNAME": "eth0",
    "CUDA_LAUNCH_BLOCKING": "1",
    "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
    "PYTORCH_ALLOC_CONF": "expandable_segments:True,roundup_power2_divisions:[256:1,>:8]",
    "PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:128",
}
HOST_ALONE = {
    "NCCL_TOPO_FILE": "/etc/topo.xml",
    "NCCL_NET_PLUGIN": "aws-ofi",
    "NCCL_CONF_FILE": "/etc/nccl.conf",
    "NCCL_DEBUG_FILE": "/home/me/nccl.log",
    "NCCL_GRAPH_DUMP_FILE": "/x",
    "TORCH_NCCL_DEBUG_INFO_TEMP_FILE": "/x",
    "NCCL_ALGO": "Ring; rm",
    "CUDA_VISIBLE_DEVICES": "1",
    "CUDA_HOME": "/usr/local/cuda",
    "PYTHONPATH": "/x",
    "HF_TOKEN": "x",
    "NCCL_IB_HCA": "",
}


def test_settings_of_nccl_gloo_and_cuda_come_from_the_host():
    """Files and plug-ins of the host are not in the container; nothing else is taken."""
    assert user_variables.forwarded(HOST | HOST_ALONE) == HOST


def test_the_user_is_told_what_was_taken_and_what_was_not():
    """A line each; of other variables nothing is said."""
    host = {"NCCL_DEBUG": "INFO", "NCCL_TOPO_FILE": "/x", "PATH": "/bin"}
    lines = user_variables.notes(user_variables.forwarded(host), host)

    assert lines[0] == "From your environment: NCCL_DEBUG=INFO."
    assert lines[1].startswith("Not taken from your environment: NCCL_TOPO_FILE (")
    assert user_variables.notes({}, {"PATH": "/bin"}) == []


def started(given, host):
    """The environment of a first start, as its record has it."""
    variables = user_variables.parse(given)
    return user_variables.forwarded(host) | user_variables.listed(variables) | {"HOME": "/x"}


def test_a_resumed_run_keeps_what_results_depend_on():
    """Settings without an effect on them are those of the machine on which it goes on."""
    first = started(["STYLE=a b"], {"NCCL_ALGO": "Ring", "NCCL_DEBUG": "WARN", "GLOO_X": "1"})
    today = {"NCCL_ALGO": "Tree", "NCCL_PROTO": "LL", "NCCL_DEBUG": "INFO"}

    assert user_variables.resumed(first, today) == {
        "STYLE": "a b",
        contract.ENV_VARIABLES: "STYLE",
        "NCCL_ALGO": "Ring",
        "NCCL_DEBUG": "INFO",
        "GLOO_X": "1",
    }


def test_a_rerun_gets_what_was_given_but_no_interface_of_another_machine():
    """The host's own settings are taken as in any run, but for those that change results."""
    first = started(["STYLE=a", "NCCL_SOCKET_IFNAME=eth7"], {"NCCL_DEBUG": "WARN"})
    today = {"NCCL_ALGO": "Tree", "GLOO_SOCKET_IFNAME": "eth0"}

    assert user_variables.reproduced(first, today) == {
        "STYLE": "a",
        contract.ENV_VARIABLES: "STYLE",
        "GLOO_SOCKET_IFNAME": "eth0",
    }


def test_a_record_can_give_nothing_that_the_option_refuses():
    """A hostile container may have written it."""
    hostile = {"LD_PRELOAD": "/output/x.so", "A\nB": "1", "C": "a\nb", "NCCL_TOPO_FILE": "/x"}
    hostile |= {"WANDB_BASE_URL": "https://evil", contract.ENV_VARIABLES: ",".join(hostile)}
    hostile[contract.ENV_VARIABLES] += ",WANDB_BASE_URL,NOT_THERE"

    assert user_variables.resumed(hostile, {}) == {}
    assert user_variables.reproduced(hostile, {}) == {}


def test_only_valid_values_of_variables_that_change_results_are_taken_from_a_record():
    """Whatever type stands there."""
    values = {"NCCL_ALGO": "Ring", "MKL_CBWR": "AVX2", "NCCL_PROTO": "a b", "OMP_NUM_THREADS": 4}

    assert result_variables.among(values) == {"NCCL_ALGO": "Ring", "MKL_CBWR": "AVX2"}
