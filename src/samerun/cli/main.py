"""The command `samerun`: the same commands as `invoke` in a checkout, from any folder."""

from pathlib import Path

from samerun.cli import common
from samerun.cli.collection import namespace
from samerun.cli.program import program


def main() -> None:
    """Run the given command, on the checkout from which samerun is installed."""
    common.work_in(Path(__file__).resolve().parents[3])
    program(namespace).run()


if __name__ == "__main__":
    main()
