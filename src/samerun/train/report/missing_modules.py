"""Say how to add a package that a script imports and the image does not have."""

from samerun.core.import_names import distribution
from samerun.train.report import diagnosis


def of(error: BaseException) -> str:
    """Return how to add the module that *error* misses; empty if it misses none."""
    for one in diagnosis.causes(error):
        if isinstance(one, ModuleNotFoundError) and one.name:
            top = one.name.partition(".")[0]
            return (
                f"The image has no module {top}. Add its package: `--with {distribution(top)}` for "
                "this run, or a line in requirements.txt of the project."
            )
    return ""
