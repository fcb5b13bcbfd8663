"""Write what the image holds to a file that the host reads without starting it."""

import importlib.metadata
import json
import platform
import sys
from pathlib import Path

import torch

PACKAGES = ("fastai", "torch", "torchvision", "wandb", "accelerate", "numpy")


def main(out: Path) -> None:
    """Refuse a CPU-only torch, which may slip in through a pip configuration."""
    if torch.version.cuda is None:
        sys.exit(f"torch {torch.__version__} was built without CUDA: the image needs a CUDA build.")
    out.write_text(
        json.dumps(
            {
                "python": platform.python_version(),
                "cuda": torch.version.cuda,
                # get_arch_list() is empty without a GPU; this reads the build's own list.
                "architectures": torch._C._cuda_getArchFlags().split(),
                "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
            },
            indent=2,
        )
        + "\n"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
