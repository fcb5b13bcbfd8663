"""What the source of a script shows is said before anything starts."""

import sys

import pytest

from samerun.core.errors import CodeError, PackageError
from samerun.host.checkout import user_code
from samerun.host.image import source_check

PYTHON = "{}.{}.0".format(*sys.version_info)
FACTS = {"python": PYTHON, "modules": ["fastai", "torch", "PIL"]}


def check(folder, text, facts=FACTS):
    (folder / "train.py").write_text(text)
    source_check.check(user_code.find(folder / "train.py"), "none", facts)


def test_missing_modules_are_named_with_line_and_remedy(tmp_path):
    """The package may have another name than its module."""
    text = (
        "import os, fastai.vision\nfrom PIL import Image\nimport cv2\nfrom timm.models import x\n"
    )
    with pytest.raises(PackageError, match=r"cv2 \(line 3\), timm \(line 4\)") as error:
        check(tmp_path, text)
    assert "`--with opencv-python-headless --with timm`" in error.value.remedy


@pytest.mark.parametrize(
    "text",
    [
        "try:\n    import timm\nexcept ImportError:\n    timm = None\n",
        "def later():\n    import timm\n",
        "if x:\n    import timm\n",
        "from . import sibling\n",
        "import helper, package, own\n",
        "import sys\nsys.path.insert(0, 'vendored')\nimport anything\n",
    ],
)
def test_what_may_be_there_is_left_to_the_run(tmp_path, text):
    (tmp_path / "helper.py").write_text("")
    (tmp_path / "package").mkdir()
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "own.py").write_text("")
    check(tmp_path, text)


def test_modules_of_an_image_that_lists_none_are_not_known(tmp_path):
    check(tmp_path, "import timm\n", {"python": "3.13.5"})


@pytest.mark.parametrize(
    "text",
    ["name = input('name? ')\n", "if __name__ == '__main__':\n    print(input())\n"],
)
def test_a_question_as_the_script_starts_is_refused(tmp_path, text):
    with pytest.raises(CodeError, match=r"line \d, asks for input"):
        check(tmp_path, text)


def test_an_input_of_a_model_is_no_question(tmp_path):
    check(tmp_path, "def main():\n    input('later')\nmodel = 1\nx = model.input(2)\n")


def test_a_syntax_error_names_its_line(tmp_path):
    with pytest.raises(CodeError, match=r"line 2"):
        check(tmp_path, "a = 1\nb = = 2\n")
