"""
Variables on which the result of a training depends, beside its inputs.

They are recorded as the training saw them, compared between nodes, and set again by
`invoke reproduce`. A value from a record is used only if its pattern matches.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

THREADS: Final = "OMP_NUM_THREADS"

_NUMBER = r"[1-9][0-9]{0,5}"
_COUNT = r"[0-9]{1,12}"
_SWITCH = r"[01]"
_WORDS = r"[A-Za-z0-9_.,:;^=+@-]{1,256}"

PATTERNS: Final = {
    # The number of threads and the instruction set decide the order of additions on a CPU.
    THREADS: _NUMBER,
    "MKL_NUM_THREADS": _NUMBER,
    "OPENBLAS_NUM_THREADS": _NUMBER,
    "OMP_DYNAMIC": r"(?i:true|false)",
    "MKL_DYNAMIC": r"(?i:true|false)",
    "MKL_CBWR": r"[A-Z0-9_]{1,32}(,STRICT)?",
    "MKL_ENABLE_INSTRUCTIONS": r"[A-Z0-9_]{1,32}",
    "KMP_DETERMINISTIC_REDUCTION": r"(?i:true|false|[01])",
    "OPENBLAS_CORETYPE": r"[A-Za-z0-9_]{1,32}",
    "NPY_DISABLE_CPU_FEATURES": r"[A-Z0-9_ ,]{1,256}",
    "ATEN_CPU_CAPABILITY": r"[a-z0-9_]{1,32}",
    "ONEDNN_MAX_CPU_ISA": r"(?i:[a-z0-9_]{1,32})",
    "DNNL_MAX_CPU_ISA": r"(?i:[a-z0-9_]{1,32})",
    "ONEDNN_DEFAULT_FPMATH_MODE": r"(?i:[a-z0-9_]{1,32})",
    # The precision and the algorithms of cuBLAS and cuDNN.
    "NVIDIA_TF32_OVERRIDE": _SWITCH,
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": _SWITCH,
    "TORCH_BLAS_PREFER_CUBLASLT": _SWITCH,
    "TORCH_CUDNN_V8_API_DISABLED": _SWITCH,
    "CUBLASLT_WORKSPACE_SIZE": _COUNT,
    "CUBLAS_WORKSPACE_CONFIG": r"(:[0-9]{1,9}:[0-9]{1,9}){1,4}",
    # The order in which NCCL adds.
    "NCCL_ALGO": _WORDS,
    "NCCL_PROTO": _WORDS,
    "NCCL_BUFFSIZE": _COUNT,
    "NCCL_NTHREADS": _COUNT,
    "NCCL_MIN_NCHANNELS": _COUNT,
    "NCCL_MAX_NCHANNELS": _COUNT,
    "NCCL_MIN_CTAS": _COUNT,
    "NCCL_MAX_CTAS": _COUNT,
    "NCCL_NVLS_ENABLE": r"[0-2]",
    "NCCL_COLLNET_ENABLE": _SWITCH,
    "NCCL_P2P_DISABLE": _SWITCH,
    "NCCL_P2P_LEVEL": r"[A-Za-z0-9]{1,8}",
    "NCCL_SHM_DISABLE": _SWITCH,
    # The order of sets of strings.
    "PYTHONHASHSEED": r"[0-9]{1,10}",
}
"""Name of each, with the pattern of all its values."""


def fits(name: str, value: str) -> bool:
    """Whether *value* is one that the variable *name* may have."""
    return re.fullmatch(PATTERNS[name], value) is not None


def among(variables: Mapping[str, Any]) -> dict[str, str]:
    """Return those of *variables* on which results depend and whose values are valid."""
    return {
        name: value
        for name, value in variables.items()
        if name in PATTERNS and isinstance(value, str) and fits(name, value)
    }
