"""Packages whose name on the index is not that of their module."""

from typing import Final

DISTRIBUTIONS: Final = {
    "Bio": "biopython",
    "PIL": "pillow",
    "attr": "attrs",
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python-headless",
    "dateutil": "python-dateutil",
    "dotenv": "python-dotenv",
    "faiss": "faiss-cpu",
    "fitz": "pymupdf",
    "git": "gitpython",
    "mpl_toolkits": "matplotlib",
    "osgeo": "gdal",
    "pl_bolts": "lightning-bolts",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "umap": "umap-learn",
    "yaml": "pyyaml",
}
"""Names of packages by the module that they hold, where the two differ by more than a dash."""


def distribution(module: str) -> str:
    """Return the name of the package that most likely holds the top-level *module*."""
    return DISTRIBUTIONS.get(module, module.replace("_", "-"))
