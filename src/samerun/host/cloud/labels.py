"""Labels that identify a cluster's machines with certain GPUs, and its spot machines."""

import itertools
import re
from typing import Any

from samerun.host.cloud.request import CloudRequest

GFD = "nvidia.com/gpu.product"
GKE = "cloud.google.com/gke-accelerator"
# EKS: the labels of Karpenter and of Auto Mode, with the same values.
EKS = ("karpenter.k8s.aws/instance-gpu-name", "eks.amazonaws.com/instance-gpu-name")


# A product as the feature discovery writes it, which needs no entry in the table below.
PRODUCT = re.compile(r"(NVIDIA|Tesla|Quadro|GRID)-[\w.-]+")
# What it appends for a GPU that is shared by time, and for a slice of one (MIG, single strategy).
SUFFIX = re.compile(r"(-MIG-[\w.]+?)?(-SHARED)?\Z")


def _named(products: list[str], *, gke: list[str] | None = None, eks: str = "") -> dict[str, Any]:
    """Return the labels of one GPU: from NVIDIA's feature discovery and from providers."""
    labels = {GFD: products} | ({GKE: gke} if gke else {})
    return labels | ({key: [eks] for key in EKS} if eks else {})


# One matching label is enough. On EKS, only the memory distinguishes A100s of 40 and 80 GB,
# so there `A100` matches both.
GPU_LABELS: dict[str, dict[str, list[str]]] = {
    "A10": _named(["NVIDIA-A10"]),
    "A100": _named(
        ["NVIDIA-A100-SXM4-40GB", "NVIDIA-A100-PCIE-40GB"],
        gke=["nvidia-tesla-a100"],
        eks="a100",
    ),
    "A100-80GB": _named(
        ["NVIDIA-A100-SXM4-80GB", "NVIDIA-A100-80GB-PCIe"], gke=["nvidia-a100-80gb"]
    ),
    "A10G": _named(["NVIDIA-A10G"], eks="a10g"),
    "A6000": _named(["NVIDIA-RTX-A6000"]),
    "B200": _named(["NVIDIA-B200"], gke=["nvidia-b200"], eks="b200"),
    "B300": _named(["NVIDIA-B300-SXM6-AC"], eks="b300"),
    "GB200": _named(["NVIDIA-GB200"], gke=["nvidia-gb200"], eks="gb200"),
    "GH200": _named(["NVIDIA-GH200-480GB", "NVIDIA-GH200-120GB"]),
    "H100": _named(
        ["NVIDIA-H100-80GB-HBM3", "NVIDIA-H100-PCIe", "NVIDIA-H100-NVL"],
        gke=["nvidia-h100-80gb", "nvidia-h100-mega-80gb"],
        eks="h100",
    ),
    "H200": _named(["NVIDIA-H200", "NVIDIA-H200-NVL"], gke=["nvidia-h200-141gb"], eks="h200"),
    "L4": _named(["NVIDIA-L4"], gke=["nvidia-l4"], eks="l4"),
    "L40": _named(["NVIDIA-L40"]),
    "L40S": _named(["NVIDIA-L40S"], eks="l40s"),
    "P100": _named(["Tesla-P100-PCIE-16GB", "Tesla-P100-SXM2-16GB"], gke=["nvidia-tesla-p100"]),
    "RTX4090": _named(["NVIDIA-GeForce-RTX-4090"]),
    "RTX6000-Ada": _named(["NVIDIA-RTX-6000-Ada-Generation"]),
    "T4": _named(["Tesla-T4"], gke=["nvidia-tesla-t4"], eks="t4"),
    "V100": _named(
        [
            *("Tesla-V100-SXM2-16GB", "Tesla-V100-SXM2-32GB"),
            *("Tesla-V100-PCIE-16GB", "Tesla-V100-PCIE-32GB"),
        ],
        gke=["nvidia-tesla-v100"],
        eks="v100",
    ),
}
SPOT_LABELS = {
    "cloud.google.com/gke-spot": ["true"],
    "karpenter.sh/capacity-type": ["spot"],
    "eks.amazonaws.com/capacityType": ["SPOT"],
    "kubernetes.azure.com/scalesetpriority": ["spot"],
}


def split(name: str) -> tuple[str, str]:
    """Return a GPU's *name* without what says that it is shared or a slice, and that."""
    at = SUFFIX.search(name)
    return (name[: at.start()], name[at.start() :]) if at else (name, "")


def of_gpu(name: str) -> dict[str, list[str]]:
    """Return the labels of the machines with the GPU *name*, of which one is enough."""
    base, suffix = split(name)
    if PRODUCT.fullmatch(base):
        return {GFD: [name]}
    # Only the feature discovery says that a GPU is shared or a slice.
    known = GPU_LABELS[base]
    return {GFD: [product + suffix for product in known[GFD]]} if suffix else known


def affinity(request: CloudRequest) -> dict[str, Any] | None:
    """Return the suitable machines: alternatives, each of a GPU label and a spot label."""
    kinds = [of_gpu(request.gpus.name)] if request.gpus.name else []
    kinds += [SPOT_LABELS] if request.spot else []
    if not kinds:
        return None
    terms = [
        {"matchExpressions": [{"key": k, "operator": "In", "values": v} for k, v in labels]}
        for labels in itertools.product(*(kind.items() for kind in kinds))
    ]
    required = {"nodeSelectorTerms": terms}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}
