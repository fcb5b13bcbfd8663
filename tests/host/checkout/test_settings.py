"""What a project sets for its trainings, and what is refused."""

import pytest

from samerun.core.errors import UsageError
from samerun.host.checkout import settings

PYPROJECT = """
[project]
name = "flora"
[tool.samerun]
packages = ["timm"]
gpus = 2
entity = "team"
data = ["photos=/mnt/photos"]
"""


def test_a_table_of_pyproject_and_a_file_of_its_own_are_read(tmp_path):
    """The file counts first: it is only ours."""
    assert settings.read(tmp_path) == settings.Settings()
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    found = settings.read(tmp_path)
    assert (found.packages, found.gpus, found.entity) == (("timm",), "2", "team")
    assert found.data == ("photos=/mnt/photos",)
    assert found.file == "[tool.samerun] in pyproject.toml"
    (tmp_path / "samerun.toml").write_text('project = "flowers"\n')
    assert settings.read(tmp_path) == settings.Settings(project="flowers", file="samerun.toml")


@pytest.mark.parametrize(
    "text",
    [
        'package = ["timm"]', 'packages = "timm"', "packages = [1]", 'entity = ""', "gpus = true",
        "gpus = -1", "project = 1", "not toml", 'data = [""]', "[data]\nphotos = 1",
    ],
)  # fmt: skip
def test_what_is_none_of_ours_is_an_error_with_its_file(tmp_path, text):
    (tmp_path / "samerun.toml").write_text(text)
    with pytest.raises(UsageError, match=r"samerun\.toml"):
        settings.read(tmp_path)


@pytest.mark.parametrize("content", [b"\xff", b"tool = 1", b"[tool]\nsamerun = 1"])
def test_a_damaged_pyproject_is_an_error(tmp_path, content):
    (tmp_path / "pyproject.toml").write_bytes(content)
    with pytest.raises(UsageError):
        settings.read(tmp_path)
