"""Which packages a project asks for, and where."""

import pytest

from samerun.core.errors import PackageError
from samerun.host.checkout import wanted_packages


def texts(found):
    return [(one.text, one.source) for one in found.wanted]


def test_a_requirements_file_is_read_with_what_it_includes(tmp_path):
    """Comments, continued lines, hashes of another lock; options say from where."""
    (tmp_path / "requirements.txt").write_text(
        "# for training\n-r more/base.txt\n--extra-index-url https://example.org/simple\n"
        "timm>=1.0  # models\nrich==13.0 \\\n    --hash=sha256:00\n-e .\n./lib\n--pre\n"
    )
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "base.txt").write_text('pandas ; python_version > "3"\n')
    found = wanted_packages.of(tmp_path, ())

    names = [('pandas ; python_version > "3"', "requirements.txt")]
    assert texts(found) == [*names, *((t, "requirements.txt") for t in ("timm>=1.0", "rich==13.0"))]
    assert found.indexes == ("--extra-index-url https://example.org/simple",)
    left_out = [note.partition(": ")[2].partition(" is left out")[0] for note in found.notes]
    assert left_out == ["'-e .'", "'./lib'", "'--pre'"]


def test_without_one_the_dependencies_of_pyproject_count(tmp_path):
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "a"\ndependencies = ["timm", "Rich>=13"]\n'
    )
    found = wanted_packages.of(tmp_path, ("rich==14.0", "albumentations"))
    assert texts(found) == [
        ("rich==14.0", "--with"),
        ("albumentations", "--with"),
        ("timm", "pyproject.toml"),
    ]
    assert [one.is_named for one in found.wanted] == [True, True, False]


@pytest.mark.parametrize("packages", [[], ["einops"]])
def test_packages_in_the_settings_take_the_place_of_files(tmp_path, packages):
    """A project's file may ask for more than its trainings need."""
    (tmp_path / "requirements.txt").write_text("numpy<2\n")
    (tmp_path / "samerun.toml").write_text(f"packages = {packages}\n")
    found = wanted_packages.of(tmp_path, ("timm",))
    assert texts(found) == [("timm", "--with"), *((name, "samerun.toml") for name in packages)]


def test_a_project_without_packages_asks_for_none(tmp_path):
    assert wanted_packages.of(tmp_path, ()) == wanted_packages.Packages()


@pytest.mark.parametrize(
    "text", ["not a name!", "a @ https://example.org/a.whl", "git+https://example.org/a", "==1"]
)
def test_what_can_not_be_locked_is_refused_by_name(tmp_path, text):
    for place in ("--with", "requirements.txt"):
        given = (text,) if place == "--with" else ()
        (tmp_path / "requirements.txt").write_text("" if given else text)
        with pytest.raises(PackageError, match=place):
            wanted_packages.of(tmp_path, given)


def test_files_that_include_each_other_or_are_missing_are_errors(tmp_path):
    (tmp_path / "requirements.txt").write_text("-r other.txt\n")
    with pytest.raises(PackageError, match=r"other\.txt can't be read"):
        wanted_packages.of(tmp_path, ())
    (tmp_path / "other.txt").write_text("-r requirements.txt\n")
    with pytest.raises(PackageError, match="includes itself"):
        wanted_packages.of(tmp_path, ())
