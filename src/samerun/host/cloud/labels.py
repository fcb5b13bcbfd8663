"""Which machines of a cluster have the GPUs, and which are spot: told by their labels."""

import itertools
from typing import Any

from samerun.host.cloud.request import Asked

# What labels name a GPU: the device plugin's own, and a provider's. Any of them will do.
GPU_LABELS: dict[str, dict[str, list[str]]] = {
    "A100": {
        "nvidia.com/gpu.product": ["NVIDIA-A100-SXM4-40GB", "NVIDIA-A100-PCIE-40GB"],
        "cloud.google.com/gke-accelerator": ["nvidia-tesla-a100"],
    },
    "A100-80GB": {
        "nvidia.com/gpu.product": ["NVIDIA-A100-SXM4-80GB", "NVIDIA-A100-80GB-PCIe"],
        "cloud.google.com/gke-accelerator": ["nvidia-a100-80gb"],
    },
    "A10G": {"nvidia.com/gpu.product": ["NVIDIA-A10G"]},
    "B200": {
        "nvidia.com/gpu.product": ["NVIDIA-B200"],
        "cloud.google.com/gke-accelerator": ["nvidia-b200"],
    },
    "H100": {
        "nvidia.com/gpu.product": ["NVIDIA-H100-80GB-HBM3", "NVIDIA-H100-PCIe"],
        "cloud.google.com/gke-accelerator": ["nvidia-h100-80gb", "nvidia-h100-mega-80gb"],
    },
    "H200": {
        "nvidia.com/gpu.product": ["NVIDIA-H200"],
        "cloud.google.com/gke-accelerator": ["nvidia-h200-141gb"],
    },
    "L4": {
        "nvidia.com/gpu.product": ["NVIDIA-L4"],
        "cloud.google.com/gke-accelerator": ["nvidia-l4"],
    },
    "L40S": {"nvidia.com/gpu.product": ["NVIDIA-L40S"]},
    "T4": {
        "nvidia.com/gpu.product": ["Tesla-T4"],
        "cloud.google.com/gke-accelerator": ["nvidia-tesla-t4"],
    },
    "V100": {
        "nvidia.com/gpu.product": ["Tesla-V100-SXM2-16GB", "Tesla-V100-SXM2-32GB"],
        "cloud.google.com/gke-accelerator": ["nvidia-tesla-v100"],
    },
}
SPOT_LABELS = {
    "cloud.google.com/gke-spot": ["true"],
    "karpenter.sh/capacity-type": ["spot"],
    "eks.amazonaws.com/capacityType": ["SPOT"],
    "kubernetes.azure.com/scalesetpriority": ["spot"],
}


def affinity(asked: Asked) -> dict[str, Any] | None:
    """Return which machines will do: any term of these, each a GPU's label and a spot one."""
    kinds = [GPU_LABELS[asked.gpus.name]] if asked.gpus.name else []
    kinds += [SPOT_LABELS] if asked.spot else []
    if not kinds:
        return None
    terms = [
        {"matchExpressions": [{"key": k, "operator": "In", "values": v} for k, v in labels]}
        for labels in itertools.product(*(kind.items() for kind in kinds))
    ]
    required = {"nodeSelectorTerms": terms}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}
