"""The digest that Kubernetes names, from an API server on loopback with its own authority."""

import http.server
import json
import shutil
import ssl
import subprocess
import threading

import pytest

from samerun.core.errors import UsageError, WrongImage
from samerun.core.placement import NodePlacement
from samerun.train.standalone import cluster_env, kubernetes, probe
from samerun.train.standalone.kubernetes import Answer

DIGEST = "a" * 64
POD = {
    "spec": {"nodeName": "gpu-a"},
    "status": {
        "containerStatuses": [
            {"name": "sidecar", "imageID": "x@sha256:" + "0" * 64},
            {"name": "training", "imageID": f"host/x@sha256:{DIGEST}"},
        ]
    },
}


@pytest.fixture
def account(tmp_path):
    """What Kubernetes mounts into every pod: authority, token, namespace."""
    if not shutil.which("openssl"):
        pytest.skip("making a certificate needs openssl")
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    files = ["-keyout", tmp_path / "key.pem", "-out", tmp_path / "ca.crt"]
    names = ["-subj", "/CN=api", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    command = ["openssl", "req", "-x509", *key, *files, *names]
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    (tmp_path / "token").write_text("secret-token")
    (tmp_path / "namespace").write_text("team")
    return tmp_path


@pytest.fixture
def api(account, monkeypatch):
    """A server that answers as the test says: a list of (code, body), the last one again."""
    answers, asked = [], []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.path, self.headers["Authorization"]))
            code, body = answers.pop(0) if len(answers) > 1 else answers[0]
            self.send_response(code)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(account / "ca.crt", account / "key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(server.server_port))
    monkeypatch.setenv("SAMERUN_POD", "digits-1")
    yield answers, asked
    server.shutdown()
    server.server_close()


def test_the_digest_is_that_of_our_container(account, api):
    """Asked with the pod's own token, with the machine; a side car's digest is none of ours."""
    answers, asked = api
    answers.append((200, POD))

    assert kubernetes.running(account=account) == Answer(digest=DIGEST, node="gpu-a")
    assert asked == [("/api/v1/namespaces/team/pods/digits-1", "Bearer secret-token")]


def test_a_status_that_comes_later_is_waited_for(account, api):
    """A container may be faster than the status of its pod."""
    api[0].extend([(200, {"status": {}}), (200, POD)])

    assert kubernetes.running(account=account, pause_s=0).digest == DIGEST


def test_a_refusal_is_told_and_no_error(account, api):
    """The role that lets a pod read itself may be missing."""
    api[0].append((403, {}))

    assert kubernetes.running(account=account) == Answer(
        why_not="the cluster refused to show the pod digits-1 (403)"
    )


def test_an_authority_that_did_not_sign_is_not_believed(account, api):
    """Somebody else's answer would be worse than none."""
    api[0].append((200, POD))
    right = (account / "ca.crt").read_bytes()
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=other"]
    command += ["-keyout", "/dev/null", "-out", str(account / "ca.crt")]
    subprocess.run(command, check=True, capture_output=True)

    told = kubernetes.running(account=account, pause_s=0)

    assert right != (account / "ca.crt").read_bytes()
    assert told.digest == ""
    assert "CERTIFICATE_VERIFY_FAILED" in told.why_not


def test_without_a_pod_s_name_nobody_is_asked(monkeypatch):
    """Outside of Kubernetes."""
    monkeypatch.delenv("SAMERUN_POD", raising=False)

    assert kubernetes.running() == Answer(why_not="no cluster was asked")


def test_another_image_than_expected_is_refused():
    """Before anything is trained, with both digests."""
    told = {"SAMERUN_IMAGE": f"host/x@sha256:{'b' * 64}"}

    with pytest.raises(WrongImage, match=f"{DIGEST}.*{'b' * 64}"):
        probe.describe_image(told, {}, Answer(digest=DIGEST))


def test_a_confirmed_digest_leaves_nothing_unknown():
    """The cluster's word and the expected one agree."""
    told = {"SAMERUN_IMAGE": f"host/x@sha256:{DIGEST}"}

    facts = {"cuda": "13.0", "packages": {}, "base": "b@sha256:1", "lock": "2"}
    image, unknown = probe.describe_image(told, facts, Answer(digest=DIGEST))

    assert (image.digest, image.cuda, unknown) == (DIGEST, "13", ())
    assert (image.base.reference, image.lock) == ("b@sha256:1", "2")


def test_machines_are_told_by_our_variables_or_by_the_trainer_s():
    """Ours win; Kubeflow's trainer sets torchrun's own."""
    trainer = {"PET_NNODES": "4", "PET_NODE_RANK": "3", "PET_MASTER_ADDR": "job-node-0-0.job"}
    trainer |= {"PET_MASTER_PORT": "29500"}

    assert cluster_env.from_environment({}) == NodePlacement()
    assert cluster_env.from_environment(trainer) == NodePlacement(
        count=4, rank=3, endpoint="job-node-0-0.job:29500"
    )
    assert cluster_env.from_environment(trainer | {"SAMERUN_NODE_RANK": "1"}).rank == 1
    assert cluster_env.from_environment(trainer | {"PET_NNODES": "2:4"}).least == 2


@pytest.mark.parametrize(
    "variables",
    [
        {"SAMERUN_NODES": "two"},
        {"SAMERUN_NODES": "2", "SAMERUN_NODE_RANK": "2", "SAMERUN_RDZV": "h:1"},
        {"SAMERUN_NODES": "2"},
    ],
)
def test_machines_that_do_not_add_up_are_refused(variables):
    """No number, a rank too high, nowhere to meet."""
    with pytest.raises(UsageError):
        cluster_env.from_environment(variables)


def test_a_pod_outside_of_a_cluster_is_told_as_unknown(account, monkeypatch):
    """Only the variables that were handed over count."""
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)

    answer = kubernetes.running({"SAMERUN_POD": "x"}, account, pause_s=0)

    assert answer.digest == ""
    assert "KUBERNETES_SERVICE_HOST" in answer.why_not


def test_numbers_of_machines_that_do_not_fit_say_what_to_set():
    """The same number everywhere, and another rank on each."""
    with pytest.raises(UsageError, match=r"SAMERUN_NODES to the same value .*different one"):
        cluster_env.from_environment({"SAMERUN_NODES": "2", "SAMERUN_NODE_RANK": "2"})
