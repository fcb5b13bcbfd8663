"""
Kubernetes: a Job for one machine, Kubeflow Trainer resources for several.

Both run the image by digest, without root, capabilities or a writable root file system.
Both may read their own pod, from which the record takes the running digest.
"""

from collections.abc import Sequence
from typing import Any

from samerun.core import contract
from samerun.host.cloud import labels, pod, text
from samerun.host.cloud.request import CloudRequest, Location

# For pods that were killed or lost; the training's own failures are not retried.
BACKOFF_LIMIT = 3
# Preemptions of a job on several machines; each restarts all of them.
MAX_RESTARTS = 100
# Exit codes of an interrupted pod: stopped before its first checkpoint, or (in containerd)
# lost with a machine that was switched off.
STOPPED = (143, 255)
# Interrupted or out of memory; the exit code does not tell which.
KILLED = (137,)
# Evicted, preempted, or lost with its node.
DISRUPTED = {"type": "DisruptionTarget", "status": "True"}
OUTPUT_SIZE = "50Gi"
TRAINER = "trainer.kubeflow.org/v1alpha1"
# The trainer recognizes its parts by these labels.
STEP = {"trainer.kubeflow.org/trainjob-ancestor-step": "trainer"}


def render(request: CloudRequest) -> str:
    """Return all objects as one YAML file."""
    return text.write(objects(request), _comment(request))


def _comment(request: CloudRequest) -> str:
    key = f"""
The W&B key is the Secret {pod.SECRET}; create it once per namespace from a netrc file:
kubectl create secret generic {pod.SECRET} --from-file=netrc=$HOME/.netrc"""
    several = """
Requires Kubeflow Trainer (kubeflow.github.io/trainer) in the cluster, and for the outputs
a volume that all machines can write to."""
    return f"""
A run of samerun for Kubernetes: kubectl apply -f FILE{"" if request.offline else key}
{several if request.nodes > 1 else ""}""".rstrip()


def objects(request: CloudRequest) -> list[dict[str, Any]]:
    """Return the objects in the order in which they are created."""
    work = [_job(request)] if request.nodes == 1 else [_runtime(request), _train_job(request)]
    return [*_identity(request), *_volumes(request), *work]


def _identity(request: CloudRequest) -> list[dict[str, Any]]:
    """
    Return the objects that let a pod read itself: a service account, a role and a binding.

    An existing account is bound, not created.
    """
    rule = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}
    group = "rbac.authorization.k8s.io"
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": _metadata(request)}
    return [
        *([] if request.account else [account]),
        {
            "apiVersion": f"{group}/v1",
            "kind": "Role",
            "metadata": _metadata(request),
            "rules": [rule],
        },
        {
            "apiVersion": f"{group}/v1",
            "kind": "RoleBinding",
            "metadata": _metadata(request),
            "subjects": [{"kind": "ServiceAccount", "name": request.account or request.name}],
            "roleRef": {"apiGroup": group, "kind": "Role", "name": request.name},
        },
    ]


def _metadata(request: CloudRequest, suffix: str = "") -> dict[str, Any]:
    return {"name": request.name + suffix, "labels": {contract.LABEL_RUN: request.name}}


def _volumes(request: CloudRequest) -> list[dict[str, Any]]:
    """Return the volume claims in the file: for outputs, and for S3 buckets."""
    claims = []
    if request.output is None:
        mode = "ReadWriteOnce" if request.nodes == 1 else "ReadWriteMany"
        spec = {"accessModes": [mode], "resources": {"requests": {"storage": OUTPUT_SIZE}}}
        claims.append(_claim(request, "-output", spec))
    for name, place in request.volumes():
        if place.kind == "s3":
            claims += _s3(request, f"-{name}", place)
    return claims


def _claim(request: CloudRequest, suffix: str, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = _metadata(request, suffix)
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": metadata,
        "spec": spec,
    }


def _s3(request: CloudRequest, suffix: str, place: Location) -> list[dict[str, Any]]:
    """Return a volume of the Mountpoint driver for S3, which supports only static volumes."""
    # A size is required, but has no meaning for a bucket.
    common = {"accessModes": ["ReadOnlyMany"], "storageClassName": ""}
    options = ["read-only", "allow-other", *([f"prefix {place.path}/"] if place.path else [])]
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": _metadata(request, suffix),
        "spec": {
            **common,
            "capacity": {"storage": "1Gi"},
            "mountOptions": options,
            "csi": {
                "driver": "s3.csi.aws.com",
                "volumeHandle": f"{request.name}{suffix}",
                "volumeAttributes": {"bucketName": place.name},
            },
        },
    }
    claim = {
        **common,
        "resources": {"requests": {"storage": "1Gi"}},
        "volumeName": f"{request.name}{suffix}",
    }
    return [volume, _claim(request, suffix, claim)]


def _job(request: CloudRequest) -> dict[str, Any]:
    """Return a Job that restarts after code 75 and evictions, and ends if the training fails."""
    rules = [
        {"action": "Ignore", "onPodConditions": [DISRUPTED]},
        {"action": "Ignore", "onExitCodes": _codes("In", request.again)},
        {"action": "FailJob", "onExitCodes": _codes("NotIn", (*request.again, *STOPPED, *KILLED))},
    ]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": _metadata(request),
        "spec": {
            "backoffLimit": BACKOFF_LIMIT,
            "podFailurePolicy": {"rules": rules},
            # One pod at a time: two would write to the same folder.
            "podReplacementPolicy": "Failed",
            "template": pod.template(request, "training", labels.affinity(request)),
        },
    }


def _codes(operator: str, values: Sequence[int], name: str = "training") -> dict[str, Any]:
    return {"containerName": name, "operator": operator, "values": sorted(values)}


def _runtime(request: CloudRequest) -> dict[str, Any]:
    """
    Return the TrainingRuntime, which describes each machine of this run.

    If one machine is preempted, the others can't continue, so all of them restart. If the
    training itself fails, the job ends.
    """
    preempted = [
        {"action": "FailJob", "onPodConditions": [DISRUPTED]},
        {"action": "FailJob", "onExitCodes": _codes("In", (*request.again, *STOPPED), "node")},
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
            "template": pod.template(request, "node", labels.affinity(request)),
        },
    }
    return {
        "apiVersion": TRAINER,
        "kind": "TrainingRuntime",
        "metadata": _metadata(request),
        "spec": {
            # The trainer passes rank and the first pod's address in its variables (PET_…).
            "mlPolicy": {"numNodes": request.nodes, "torch": {}},
            "template": {
                "spec": {
                    "failurePolicy": {"maxRestarts": MAX_RESTARTS, "rules": restart},
                    "replicatedJobs": [{"name": "node", "template": job}],
                }
            },
        },
    }


def _train_job(request: CloudRequest) -> dict[str, Any]:
    return {
        "apiVersion": TRAINER,
        "kind": "TrainJob",
        "metadata": _metadata(request),
        "spec": {
            "runtimeRef": {
                "apiGroup": TRAINER.partition("/")[0],
                "kind": "TrainingRuntime",
                "name": request.name,
            },
            "trainer": {"numNodes": request.nodes, "numProcPerNode": request.procs},
        },
    }
