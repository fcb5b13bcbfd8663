"""The pod of a run: one container, as hardened as on a laptop."""

import re
from typing import Any

from samerun.core import contract
from samerun.host.cloud.request import CloudRequest, Location

USER = 1000
SECRET = "samerun-wandb"  # noqa: S105 - a name
# The kubelet kills the pod after this time; a checkpoint and the launcher need STOP_TIMEOUT_S.
GRACE_S = contract.STOP_TIMEOUT_S + 15


def template(
    request: CloudRequest, container: str, affinity: dict[str, Any] | None
) -> dict[str, Any]:
    """Return the pod's template, with its one container named *container*."""
    spec = {
        "restartPolicy": "Never",
        "serviceAccountName": request.account or request.name,
        **({"runtimeClassName": request.runtime_class} if request.runtime_class else {}),
        **({"imagePullSecrets": [{"name": request.pull_secret}]} if request.pull_secret else {}),
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE_S,
        **({"affinity": affinity} if affinity else {}),
        "tolerations": _tolerations(request),
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            # The volumes and the key file belong to this group.
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(request, container)],
        "volumes": _volumes(request),
    }
    return {"metadata": _metadata(request), "spec": spec}


def _metadata(request: CloudRequest) -> dict[str, Any]:
    metadata: dict[str, Any] = {"labels": {contract.LABEL_RUN: request.name}}
    if any(place and place.kind == "gs" for place in (*request.data, request.output)):
        # Requests the sidecar that mounts buckets.
        metadata["annotations"] = {"gke-gcsfuse/volumes": "true"}
    return metadata


def _tolerations(request: CloudRequest) -> list[dict[str, Any]]:
    """Return the tolerated taints: those of GPU machines and of spot machines."""
    keys = ["nvidia.com/gpu"] if request.gpus.number else []
    if request.spot:
        keys += ["cloud.google.com/gke-spot", "kubernetes.azure.com/scalesetpriority"]
    # The taint for GPU machines in the AKS documentation.
    aks = {"key": "sku", "operator": "Equal", "value": "gpu"}
    tolerated: list[dict[str, Any]] = [{"key": key, "operator": "Exists"} for key in keys]
    return [*tolerated, *([aks] if request.gpus.number else [])]


def _container(request: CloudRequest, name: str) -> dict[str, Any]:
    resources = _resources(request)
    return {
        "name": name,
        "image": request.image,
        "imagePullPolicy": "IfNotPresent",
        "args": [_literal(word) for word in request.entry()],
        "env": _variables(request),
        **({"resources": resources} if resources else {}),
        "securityContext": {
            "readOnlyRootFilesystem": True,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": _mounts(request),
    }


def _resources(request: CloudRequest) -> dict[str, Any]:
    """Return the requests and limits; memory is the only request that is also a limit."""
    memory = {"memory": _quantity(request.memory)} if request.memory else {}
    requests = {**({"cpu": request.cpus} if request.cpus else {}), **memory}
    gpus = {"nvidia.com/gpu": request.gpus.number} if request.gpus.number else {}
    resources = {"requests": requests, "limits": {**memory, **gpus}}
    return {name: values for name, values in resources.items() if values}


def _variables(request: CloudRequest) -> list[dict[str, Any]]:
    values = request.environment() | {contract.ENV_ENGINE: "kubernetes"}
    if not request.offline:
        values["NETRC"] = contract.NETRC
    itself = {"fieldRef": {"fieldPath": "metadata.name"}}
    return [
        *({"name": name, "value": _literal(value)} for name, value in sorted(values.items())),
        {"name": contract.ENV_POD, "valueFrom": itself},
    ]


def _literal(text: str) -> str:
    """Escape what Kubernetes would expand in arguments and variables: ``$(NAME)`` and ``$$``."""
    return re.sub(r"\$(?=[$(])", "$$", text)


def _mounts(request: CloudRequest) -> list[dict[str, Any]]:
    output = {"name": "output", "mountPath": contract.OUTPUT, "subPath": _below(request)}
    mounts: list[dict[str, Any]] = [
        output,
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - the container's
        {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108
    ]
    for name, place in request.volumes():
        below = place.path if place.kind in ("pvc", "gs") else ""
        data = {"name": name, "mountPath": place.target, "readOnly": True}
        mounts.append(data | ({"subPath": below} if below else {}))
    if not request.offline:
        key = {"name": "wandb", "mountPath": contract.NETRC, "subPath": "netrc", "readOnly": True}
        mounts.append(key)
    return mounts


def _below(request: CloudRequest) -> str:
    """Return the path of the run's folder on the output volume."""
    parts = (request.output.path if request.output else "", request.name)
    return "/".join(part for part in parts if part)


def _volumes(request: CloudRequest) -> list[dict[str, Any]]:
    output = request.output or Location(kind="pvc", name=f"{request.name}-output")
    memory: dict[str, Any] = {"medium": "Memory"}
    shared = {**memory, "sizeLimit": _quantity(request.shared_memory)}
    volumes = [
        {"name": "output", **_volume(output, "", read_only=False)},
        {"name": "tmp", "emptyDir": memory},
        {"name": "shm", "emptyDir": shared},
    ]
    for name, place in request.volumes():
        # The file creates this claim for an S3 bucket.
        claim = f"{request.name}-{name}"
        volumes.append({"name": name, **_volume(place, claim, read_only=True)})
    if not request.offline:
        secret = {"secretName": SECRET, "defaultMode": 0o400}
        volumes.append({"name": "wandb", "secret": secret})
    return volumes


def _volume(place: Location, bucket_claim: str, *, read_only: bool) -> dict[str, Any]:
    claim = {"claimName": place.name, **({"readOnly": True} if read_only else {})}
    match place.kind:
        case "pvc":
            return {"persistentVolumeClaim": claim}
        case "s3":
            return {"persistentVolumeClaim": claim | {"claimName": bucket_claim}}
        case "gs":
            options = {"bucketName": place.name, "mountOptions": f"implicit-dirs,uid={USER}"}
            driver = "gcsfuse.csi.storage.gke.io"
            return {"csi": {"driver": driver, "readOnly": read_only, "volumeAttributes": options}}
        case "path":
            return {"hostPath": {"path": place.name, "type": "Directory"}}


def _quantity(size: str) -> str:
    """Convert Docker's ``16g`` to Kubernetes' ``16Gi``."""
    number, unit = size.rstrip("bkmgBKMG"), size[-1].lower()
    return number + {"k": "Ki", "m": "Mi", "g": "Gi"}.get(unit, "")
