"""What is locked for a project, with uv itself and wheels of the test."""

import pytest
import wheels

from samerun.core.errors import PackageError
from samerun.host.checkout import wanted_packages
from samerun.host.image import package_lock
from samerun.host.image.package_lock import Under

IMAGE = Under(python="3.13.5", installed={"torch": "2.15.0+cpu", "numpy": "2.5.5", "six": "1.0"})

OWN_LOCK = """
version = 1

[[package]]
name = "flora"
source = {{ virtual = "." }}

[[package]]
name = "glue"
version = "{version}"
source = {{ registry = "https://example.org/simple" }}

[[package]]
name = "numpy"
version = "1.0"
source = {{ registry = "https://example.org/simple" }}

[[package]]
name = "timm"
version = "0.9"
source = {{ registry = "https://example.org/simple" }}

[[package]]
name = "timm"
version = "0.8"
source = {{ registry = "https://example.org/simple" }}
"""


@pytest.fixture
def project(tmp_path):
    """A project whose packages are in a folder beside it."""
    root = tmp_path / "flora"
    root.mkdir()
    (tmp_path / "state").mkdir()
    for name, needs in {"timm": ["torch", "glue>=1"], "old": ["numpy<2"], "glue": []}.items():
        wheels.make(tmp_path / "wheels", name, requires=needs)
    wheels.make(tmp_path / "wheels", "glue", "2.0")
    wheels.make(tmp_path / "wheels", "torch", "2.15.0")
    wheels.make(tmp_path / "wheels", "numpy", "1.0")
    wheels.make(tmp_path / "wheels", "numpy", "2.5.5")
    (tmp_path / "wheels" / "source-1.0.tar.gz").write_bytes(b"")
    (tmp_path / "wheels" / "windows-1.0-cp313-cp313-win_amd64.whl").write_bytes(b"")
    return root


def lock(project, *requirements, with_=(), said=None):
    lines = ["--no-index", f"--find-links {project.parent / 'wheels'}", *requirements]
    (project / "requirements.txt").write_text("\n".join(lines))
    packages = wanted_packages.of(project, with_)
    say = (lambda text: None) if said is None else said.append
    return package_lock.lock(project, packages, IMAGE, project.parent / "state", say)


def test_only_what_the_image_lacks_is_locked_with_hashes(project):
    """At the image's versions, for the image's Python; the file lies in the project."""
    found = lock(project, "timm", "numpy>=2")

    assert found.pins == {"timm": "1.0", "glue": "2.0"}
    assert found.text.count("--hash=sha256:") == 2
    assert (project / "samerun.lock").read_text() == found.text


def test_a_current_lock_needs_no_index_and_a_later_one_keeps_versions(project):
    """Else the same project would be another one on the next day."""
    first = lock(project, "timm", "glue<2")
    for wheel in (project.parent / "wheels").glob("glue-1*"):
        wheel.rename(wheel.with_suffix(".gone"))
    assert lock(project, "timm", "glue<2") == first
    for wheel in (project.parent / "wheels").glob("*.gone"):
        wheel.rename(wheel.with_suffix(".whl"))
    assert lock(project, "timm").pins == {"timm": "1.0", "glue": "1.0"}
    (project / "samerun.lock").unlink()
    assert lock(project, "timm").pins == {"timm": "1.0", "glue": "2.0"}


def test_versions_of_the_projects_own_lock_are_kept(project):
    """Also after a change there; the image's stay, which is said, and several say nothing."""
    said = []
    wheels.make(project.parent / "wheels", "glue", "3.0")
    assert lock(project, "timm").pins["glue"] == "3.0"
    (project / "uv.lock").write_text(OWN_LOCK.format(version="1.0"))
    assert lock(project, "timm", said=said).pins == {"timm": "1.0", "glue": "1.0"}
    assert said[1] == "uv.lock has numpy 1.0; the image's versions count: numpy 2.5.5."
    (project / "uv.lock").write_text(OWN_LOCK.format(version="2.0"))
    assert lock(project, "timm").pins == {"timm": "1.0", "glue": "2.0"}
    (project / "uv.lock").write_text("version = ")
    with pytest.raises(PackageError, match=r"uv\.lock can't be read"):
        lock(project, "timm")


def test_what_the_image_has_is_not_looked_up(project):
    assert lock(project, "numpy", "torch>=2", "six") is None
    assert not (project / "samerun.lock").exists()


def test_the_frameworks_stay_the_images_and_another_version_is_said(project):
    said = []
    assert lock(project, "torch==2.1", said=said) is None
    assert said == ["requirements.txt asks for torch==2.1; the image's torch 2.15.0 stays."]


def test_a_version_against_the_image_is_refused_with_both_sides(project):
    with pytest.raises(PackageError, match=r"numpy<2, but the image has numpy 2\.5\.5") as error:
        lock(project, "numpy<2")
    assert "--with 'numpy<2'" in error.value.remedy
    assert lock(project, with_=("numpy<2",)).pins == {"numpy": "1.0"}


@pytest.mark.parametrize(
    ("name", "said", "remedy"),
    [
        ("old", r"numpy", "Change a requirement"),
        ("nothing-of-this-name", r"nothing-of-this-name", "Check the name"),
        ("source", r"source", "no compiler"),
        ("windows", r"windows", "wheels for Linux"),
    ],
)
def test_what_can_not_be_resolved_names_it_and_the_remedy(project, name, said, remedy):
    with pytest.raises(PackageError, match=said) as error:
        lock(project, name)
    assert remedy in error.value.remedy, error.value
    assert not (project / "samerun.lock").exists()


def test_installation_is_that_of_the_lock_and_a_changed_file_is_refused(
    project, tmp_path, monkeypatch
):
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    found = lock(project, "timm")
    indexes = wanted_packages.of(project, ()).indexes
    package_lock.install(project, found, IMAGE, tmp_path / "site", indexes)
    assert (tmp_path / "site" / "glue" / "__init__.py").read_text() == "VERSION = '2.0'\n"

    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache2"))
    wheels.make(tmp_path / "wheels", "glue", "2.0", files={"glue/__init__.py": "evil = 1\n"})
    with pytest.raises(PackageError, match="ash") as error:
        package_lock.install(project, found, IMAGE, tmp_path / "other", indexes)
    assert "samerun.lock" in error.value.remedy


def test_logins_in_addresses_are_not_shown(project):
    (project / "requirements.txt").write_text("--index-url http://me:secret@127.0.0.1:9/\ntimm\n")
    packages = wanted_packages.of(project, ())
    with pytest.raises(PackageError) as error:
        package_lock.lock(project, packages, IMAGE, project.parent / "state", lambda text: None)
    assert "secret" not in str(error.value)
    assert "Check the network" in error.value.remedy


def test_an_image_of_others_is_refused():
    with pytest.raises(PackageError, match="not built by samerun"):
        package_lock.under({"packages": {}}, "ubuntu")
