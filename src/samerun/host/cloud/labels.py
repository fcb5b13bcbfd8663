"""Labels that identify a cluster's machines with certain GPUs, and its spot machines."""

import itertools
from typing import Any

from samerun.host.cloud.request import CloudRequest

GFD = "nvidia.com/gpu.product"
GKE = "cloud.google.com/gke-accelerator"
# EKS: the labels of Karpenter and of Auto Mode, with the same values.
EKS = ("karpenter.k8s.aws/instance-gpu-name", "eks.amazonaws.com/instance-gpu-name")


def _named(products: list[str], *, gke: list[str] | None = None, eks: str = "") -> dict[str, Any]:
    """Return the labels of one GPU: from NVIDIA's feature discovery and from providers."""
    labels = {GFD: products} | ({GKE: gke} if gke else {})
    return labels | ({key: [eks] for key in EKS} if eks else {})


# One matching label is enough. On EKS, only the memory distinguishes A100s of 40 and 80 GB,
# so there `A100` matches both.
GPU_LABELS: dict[str, dict[str, list[str]]] = {
    "A10": _named(["NVIDIA-A10"]),
    "A100": _named(
        ["NVIDIA-A100-SXM4-40GB", "NVIDIA-A100-PCIE-40GB"], gke=["nvidia-tesla-a100"], eks="a100"
    ),
    "A100-80GB": _named(
        ["NVIDIA-A100-SXM4-80GB", "NVIDIA-A100-80GB-PCIe"], gke=["nvidia-a100-80gb"]
    ),
    "A10G": _named(["NVIDIA-A10G"], eks="a10g"),
    "B200": _named(["NVIDIA-B200"], gke=["nvidia-b200"], eks="b200"),
    "H100": _named(
        ["NVIDIA-H100-80GB-HBM3", "NVIDIA-H100-PCIe", "NVIDIA-H100-NVL"],
        gke=["nvidia-h100-80gb", "nvidia-h100-mega-80gb"],
        eks="h100",
    ),
    "H200": _named(["NVIDIA-H200"], gke=["nvidia-h200-141gb"], eks="h200"),
    "L4": _named(["NVIDIA-L4"], gke=["nvidia-l4"], eks="l4"),
    "L40S": _named(["NVIDIA-L40S"], eks="l40s"),
    "T4": _named(["Tesla-T4"], gke=["nvidia-tesla-t4"], eks="t4"),
    "V100": _named(
        ["Tesla-V100-SXM2-16GB", "Tesla-V100-SXM2-32GB"], gke=["nvidia-tesla-v100"], eks="v100"
    ),
}
SPOT_LABELS = {
    "cloud.google.com/gke-spot": ["true"],
    "karpenter.sh/capacity-type": ["spot"],
    "eks.amazonaws.com/capacityType": ["SPOT"],
    "kubernetes.azure.com/scalesetpriority": ["spot"],
}


def affinity(request: CloudRequest) -> dict[str, Any] | None:
    """Return the suitable machines: alternatives, each of a GPU label and a spot label."""
    kinds = [GPU_LABELS[request.gpus.name]] if request.gpus.name else []
    kinds += [SPOT_LABELS] if request.spot else []
    if not kinds:
        return None
    terms = [
        {"matchExpressions": [{"key": k, "operator": "In", "values": v} for k, v in labels]}
        for labels in itertools.product(*(kind.items() for kind in kinds))
    ]
    required = {"nodeSelectorTerms": terms}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}
