"""The pod of a run: one container, as hardened as on a laptop."""

from typing import Any

from samerun.core import contract
from samerun.host.cloud.request import CloudRequest, Location

USER = 1000
SECRET = "samerun-wandb"  # noqa: S105 - a name
# The kubelet kills after it; a checkpoint and torch's launcher need STOP_TIMEOUT_S.
GRACE_S = contract.STOP_TIMEOUT_S + 15


def template(
    asked: CloudRequest, container: str, affinity: dict[str, Any] | None
) -> dict[str, Any]:
    """Return the pod's template, with its one container named *container*."""
    spec = {
        "restartPolicy": "Never",
        "serviceAccountName": asked.account or asked.name,
        **({"imagePullSecrets": [{"name": asked.pull_secret}]} if asked.pull_secret else {}),
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE_S,
        **({"affinity": affinity} if affinity else {}),
        "tolerations": _tolerations(asked),
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            # Volumes and the key's file belong to this group.
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(asked, container)],
        "volumes": _volumes(asked),
    }
    return {"metadata": _metadata(asked), "spec": spec}


def _metadata(asked: CloudRequest) -> dict[str, Any]:
    metadata: dict[str, Any] = {"labels": {contract.LABEL_RUN: asked.name}}
    if any(place and place.kind == "gs" for place in (asked.data, asked.output)):
        # Asks for the side car that mounts buckets.
        metadata["annotations"] = {"gke-gcsfuse/volumes": "true"}
    return metadata


def _tolerations(asked: CloudRequest) -> list[dict[str, Any]]:
    """Return which taints are no hindrance: those of machines with GPUs, and of spot ones."""
    keys = ["nvidia.com/gpu"] if asked.gpus.number else []
    if asked.spot:
        keys += ["cloud.google.com/gke-spot", "kubernetes.azure.com/scalesetpriority"]
    # What AKS's documentation taints its GPU machines with.
    aks = {"key": "sku", "operator": "Equal", "value": "gpu"}
    tolerated: list[dict[str, Any]] = [{"key": key, "operator": "Exists"} for key in keys]
    return [*tolerated, *([aks] if asked.gpus.number else [])]


def _container(asked: CloudRequest, name: str) -> dict[str, Any]:
    resources = _resources(asked)
    return {
        "name": name,
        "image": asked.image,
        "imagePullPolicy": "IfNotPresent",
        "args": asked.entry(),
        "env": _variables(asked),
        **({"resources": resources} if resources else {}),
        "securityContext": {
            "readOnlyRootFilesystem": True,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": _mounts(asked),
    }


def _resources(asked: CloudRequest) -> dict[str, Any]:
    """Return what the scheduler finds a machine by; memory alone is a limit too."""
    memory = {"memory": _quantity(asked.memory)} if asked.memory else {}
    requests = {**({"cpu": asked.cpus} if asked.cpus else {}), **memory}
    gpus = {"nvidia.com/gpu": asked.gpus.number} if asked.gpus.number else {}
    found = {"requests": requests, "limits": {**memory, **gpus}}
    return {name: values for name, values in found.items() if values}


def _variables(asked: CloudRequest) -> list[dict[str, Any]]:
    values = asked.environment() | {contract.ENV_ENGINE: "kubernetes"}
    if not asked.offline:
        values["NETRC"] = contract.NETRC
    itself = {"fieldRef": {"fieldPath": "metadata.name"}}
    return [
        *({"name": name, "value": value} for name, value in sorted(values.items())),
        {"name": contract.ENV_POD, "valueFrom": itself},
    ]


def _mounts(asked: CloudRequest) -> list[dict[str, Any]]:
    output = {"name": "output", "mountPath": contract.OUTPUT, "subPath": _below(asked)}
    mounts: list[dict[str, Any]] = [
        output,
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - the container's
        {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108
    ]
    if asked.data:
        below = asked.data.path if asked.data.kind in ("pvc", "gs") else ""
        data = {"name": "data", "mountPath": contract.DATA, "readOnly": True}
        mounts.append(data | ({"subPath": below} if below else {}))
    if not asked.offline:
        key = {"name": "wandb", "mountPath": contract.NETRC, "subPath": "netrc", "readOnly": True}
        mounts.append(key)
    return mounts


def _below(asked: CloudRequest) -> str:
    """Return the run's own folder on the output's volume."""
    parts = (asked.output.path if asked.output else "", asked.name)
    return "/".join(part for part in parts if part)


def _volumes(asked: CloudRequest) -> list[dict[str, Any]]:
    output = asked.output or Location(kind="pvc", name=f"{asked.name}-output")
    memory: dict[str, Any] = {"medium": "Memory"}
    shared = {**memory, "sizeLimit": _quantity(asked.shm_size)}
    volumes = [
        {"name": "output", **_volume(asked, output, read_only=False)},
        {"name": "tmp", "emptyDir": memory},
        {"name": "shm", "emptyDir": shared},
    ]
    if asked.data:
        volumes.append({"name": "data", **_volume(asked, asked.data, read_only=True)})
    if not asked.offline:
        secret = {"secretName": SECRET, "defaultMode": 0o400}
        volumes.append({"name": "wandb", "secret": secret})
    return volumes


def _volume(asked: CloudRequest, place: Location, *, read_only: bool) -> dict[str, Any]:
    claim = {"claimName": place.name, **({"readOnly": True} if read_only else {})}
    match place.kind:
        case "pvc":
            return {"persistentVolumeClaim": claim}
        case "s3":
            # The claim on the bucket that the file itself makes.
            return {"persistentVolumeClaim": claim | {"claimName": f"{asked.name}-data"}}
        case "gs":
            options = {"bucketName": place.name, "mountOptions": f"implicit-dirs,uid={USER}"}
            driver = "gcsfuse.csi.storage.gke.io"
            return {"csi": {"driver": driver, "readOnly": read_only, "volumeAttributes": options}}
        case "path":
            return {"hostPath": {"path": place.name, "type": "Directory"}}


def _quantity(size: str) -> str:
    """Turn Docker's ``16g`` into Kubernetes' ``16Gi``."""
    number, unit = size.rstrip("bkmgBKMG"), size[-1].lower()
    return number + {"k": "Ki", "m": "Mi", "g": "Gi"}.get(unit, "")
