"""The command `samerun`: the same commands as `invoke` in a checkout, from any folder."""

from samerun.cli import common
from samerun.cli.collection import namespace
from samerun.cli.program import program
from samerun.host.checkout import installed


def main() -> None:
    """Run the given command, with the clone or the wheel from which samerun is installed."""
    common.work_in(installed.root())
    program(namespace).run()


if __name__ == "__main__":
    main()
