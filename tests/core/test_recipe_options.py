import pytest

from samerun.core.errors import UsageError
from samerun.core.recipe_options import read_recipe

SOURCE = '''"""Learn something.

More text.
"""
from typing import Annotated, Literal
import a_framework_that_does_not_exist

def train(
    session,
    *,
    epochs: Annotated[int, "passes"] = 4,
    lr: Annotated[float, "peak"] = 1e-3,
    arch: Annotated[Literal["small", "large"], "model"] = "small",
    flip: Annotated[bool, "mirror images"] = True,
):
    """Train."""
'''


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "toy.py"
    path.write_text(SOURCE)
    return read_recipe(path)


def test_recipe_is_read_without_importing_its_framework(recipe):
    """Name, first sentence, options and defaults come from the source alone."""
    assert recipe.name == "toy"
    assert recipe.summary == "Learn something."
    assert recipe.parse([]) == {"epochs": 4, "lr": 1e-3, "arch": "small", "flip": True}


def test_given_arguments_win_over_defaults(recipe):
    """Values are converted to the annotated type."""
    arguments = ["--epochs", "2", "--lr", "0.5", "--arch", "large", "--no-flip"]

    assert recipe.parse(arguments) == {"epochs": 2, "lr": 0.5, "arch": "large", "flip": False}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--epoch-count", "2"],
        ["--epochs", "two"],
        ["--arch", "huge"],
        ["stray"],
        ["--epoch", "2"],
    ],
)
def test_wrong_arguments_name_the_recipe_and_its_flags(recipe, arguments):
    """An unknown flag or a wrong value is a usage error that lists what there is."""
    with pytest.raises(UsageError, match=r"(?s)Recipe toy: .*--epochs --lr --arch --flip"):
        recipe.parse(arguments)


def test_file_without_train_is_refused(tmp_path):
    """A recipe must have a train function."""
    path = tmp_path / "empty.py"
    path.write_text("x = 1")

    with pytest.raises(UsageError, match="no train function"):
        read_recipe(path)


def test_recipe_says_whether_it_downloads(tmp_path):
    """A run that needs nothing from outside gets no network."""
    text = "def train(session):\n    pass\n"
    (tmp_path / "a.py").write_text(text)
    (tmp_path / "b.py").write_text(f"DOWNLOADS = True\n{text}")

    assert not read_recipe(tmp_path / "a.py").downloads
    assert read_recipe(tmp_path / "b.py").downloads


@pytest.mark.parametrize(
    "option",
    [
        "lr: Annotated[float | None, 'rate'] = None",
        "lr: Annotated[float, 'rate'] = 1 / 10",
        "lr: Annotated[float, 'rate']",
        "lr: Annotated[list, 'rates'] = []",
        "epochs: Annotated[int, 'passes'] = 1.5",
        "epochs: Annotated[int, 'passes'] = True",
        "arch: Annotated[Literal['a', 'b'], 'model'] = 'c'",
        "lr",
    ],
)
def test_an_option_that_can_not_be_read_is_refused(tmp_path, option):
    """It would be dropped, or fail in the container, or be a text."""
    path = tmp_path / "mine.py"
    path.write_text(f"def train(session, *, {option}): ...\n")

    with pytest.raises(UsageError, match="Recipe mine"):
        read_recipe(path)
