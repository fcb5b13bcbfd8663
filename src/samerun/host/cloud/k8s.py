"""
Kubernetes: a Job for one machine, the Kubeflow trainer's resources for several.

Both run the image by digest, without root, capabilities or a writable root file system,
and may read their own pod, from which the record takes the digest that really runs.
"""

from collections.abc import Sequence
from typing import Any

from samerun.core import contract
from samerun.host.cloud import labels, pod, text
from samerun.host.cloud.request import CloudRequest

# Pods killed or lost without a word; the training's own failures are not tried again.
BACKOFF_LIMIT = 3
# Preemptions of a job on several machines; each starts all of them again.
MAX_RESTARTS = 100
# Of a pod that ends by no wish of its own: told to before there was a checkpoint, and (as
# containerd has it) gone with a machine that was switched off.
STOPPED = (143, 255)
# The same, or out of memory: nobody but the kernel knows which.
KILLED = (137,)
# Evicted, preempted, or lost with its node.
DISRUPTED = {"type": "DisruptionTarget", "status": "True"}
OUTPUT_SIZE = "50Gi"
TRAINER = "trainer.kubeflow.org/v1alpha1"
# The trainer finds its own parts by these names.
STEP = {"trainer.kubeflow.org/trainjob-ancestor-step": "trainer"}


def render(asked: CloudRequest) -> str:
    """Return all objects as one YAML file."""
    return text.write(objects(asked), _comment(asked))


def _comment(asked: CloudRequest) -> str:
    key = f"""
The W&B key is the Secret {pod.SECRET}, made once per namespace from a netrc file:
kubectl create secret generic {pod.SECRET} --from-file=netrc=$HOME/.netrc"""
    several = """
Needs the Kubeflow trainer (kubeflow.github.io/trainer) in the cluster, and for the outputs
a volume that all machines can write."""
    return f"""
A run of samerun for Kubernetes: kubectl apply -f FILE{"" if asked.offline else key}
{several if asked.nodes > 1 else ""}""".rstrip()


def objects(asked: CloudRequest) -> list[dict[str, Any]]:
    """Return the objects in the order in which they are made."""
    work = [_job(asked)] if asked.nodes == 1 else [_runtime(asked), _train_job(asked)]
    return [*_identity(asked), *_volumes(asked), *work]


def _identity(asked: CloudRequest) -> list[dict[str, Any]]:
    """
    Return what lets a pod read itself: an account, a role, and both bound together.

    An account of the cluster's own is bound, and not made.
    """
    rule = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}
    group = "rbac.authorization.k8s.io"
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": _metadata(asked)}
    return [
        *([] if asked.account else [account]),
        {
            "apiVersion": f"{group}/v1",
            "kind": "Role",
            "metadata": _metadata(asked),
            "rules": [rule],
        },
        {
            "apiVersion": f"{group}/v1",
            "kind": "RoleBinding",
            "metadata": _metadata(asked),
            "subjects": [{"kind": "ServiceAccount", "name": asked.account or asked.name}],
            "roleRef": {"apiGroup": group, "kind": "Role", "name": asked.name},
        },
    ]


def _metadata(asked: CloudRequest, suffix: str = "") -> dict[str, Any]:
    return {"name": asked.name + suffix, "labels": {contract.LABEL_RUN: asked.name}}


def _volumes(asked: CloudRequest) -> list[dict[str, Any]]:
    """Return claims that the file itself makes: for outputs, and for a bucket of S3."""
    made = []
    if asked.output is None:
        mode = "ReadWriteOnce" if asked.nodes == 1 else "ReadWriteMany"
        spec = {"accessModes": [mode], "resources": {"requests": {"storage": OUTPUT_SIZE}}}
        made.append(_claim(asked, "-output", spec))
    if asked.data and asked.data.kind == "s3":
        made += _s3(asked, asked.data.name, asked.data.path)
    return made


def _claim(asked: CloudRequest, suffix: str, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = _metadata(asked, suffix)
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": metadata,
        "spec": spec,
    }


def _s3(asked: CloudRequest, bucket: str, path: str) -> list[dict[str, Any]]:
    """Return a volume of the Mountpoint driver for S3, which knows static volumes only."""
    # The size means nothing to a bucket, and must be there.
    common = {"accessModes": ["ReadOnlyMany"], "storageClassName": ""}
    options = ["read-only", "allow-other", *([f"prefix {path}/"] if path else [])]
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": _metadata(asked, "-data"),
        "spec": {
            **common,
            "capacity": {"storage": "1Gi"},
            "mountOptions": options,
            "csi": {
                "driver": "s3.csi.aws.com",
                "volumeHandle": f"{asked.name}-data",
                "volumeAttributes": {"bucketName": bucket},
            },
        },
    }
    claim = {
        **common,
        "resources": {"requests": {"storage": "1Gi"}},
        "volumeName": f"{asked.name}-data",
    }
    return [volume, _claim(asked, "-data", claim)]


def _job(asked: CloudRequest) -> dict[str, Any]:
    """Return a Job: 75 and evictions start it again, a training's own failure ends it."""
    rules = [
        {"action": "Ignore", "onPodConditions": [DISRUPTED]},
        {"action": "Ignore", "onExitCodes": _codes("In", asked.again)},
        {"action": "FailJob", "onExitCodes": _codes("NotIn", (*asked.again, *STOPPED, *KILLED))},
    ]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": _metadata(asked),
        "spec": {
            "backoffLimit": BACKOFF_LIMIT,
            "podFailurePolicy": {"rules": rules},
            # One pod at a time: two would write one folder.
            "podReplacementPolicy": "Failed",
            "template": pod.template(asked, "training", labels.affinity(asked)),
        },
    }


def _codes(operator: str, values: Sequence[int], name: str = "training") -> dict[str, Any]:
    return {"containerName": name, "operator": operator, "values": sorted(values)}


def _runtime(asked: CloudRequest) -> dict[str, Any]:
    """
    Return the TrainingRuntime: how each machine of this run is made.

    When one machine is preempted the others can't go on either, so the whole set starts
    again; a training that fails by itself ends the set.
    """
    preempted = [
        {"action": "FailJob", "onPodConditions": [DISRUPTED]},
        {"action": "FailJob", "onExitCodes": _codes("In", (*asked.again, *STOPPED), "node")},
    ]
    restart = [
        {
            "name": "preempted",
            "action": "RestartJobSet",
            "onJobFailureReasons": ["PodFailurePolicy"],
        },
        {"name": "failed", "action": "FailJobSet", "onJobFailureReasons": ["BackoffLimitExceeded"]},
    ]
    job = {
        "metadata": {"labels": STEP},
        "spec": {
            "backoffLimit": 0,
            "podFailurePolicy": {"rules": preempted},
            "template": pod.template(asked, "node", labels.affinity(asked)),
        },
    }
    return {
        "apiVersion": TRAINER,
        "kind": "TrainingRuntime",
        "metadata": _metadata(asked),
        "spec": {
            # The trainer's own variables (PET_…) tell each pod its rank and the first's address.
            "mlPolicy": {"numNodes": asked.nodes, "torch": {}},
            "template": {
                "spec": {
                    "failurePolicy": {"maxRestarts": MAX_RESTARTS, "rules": restart},
                    "replicatedJobs": [{"name": "node", "template": job}],
                }
            },
        },
    }


def _train_job(asked: CloudRequest) -> dict[str, Any]:
    return {
        "apiVersion": TRAINER,
        "kind": "TrainJob",
        "metadata": _metadata(asked),
        "spec": {
            "runtimeRef": {
                "apiGroup": TRAINER.partition("/")[0],
                "kind": "TrainingRuntime",
                "name": asked.name,
            },
            "trainer": {"numNodes": asked.nodes, "numProcPerNode": asked.procs},
        },
    }
