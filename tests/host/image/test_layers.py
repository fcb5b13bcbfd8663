"""Comparing what two images hold."""

from samerun.host.image import layers

STATUS = """Package: base-files
Status: install ok installed
Version: 13.8

Package: openssl
Status: install ok installed
Depends: libc6 (>= 2.34)
Version: 3.5.1-1
Description: tools
 Version: of a description, not of the package
"""


def test_versions_are_read_from_dpkgs_status():
    """Each package's own version, whatever its description says."""
    assert layers.PACKAGE.findall(STATUS) == [("base-files", "13.8"), ("openssl", "3.5.1-1")]


def test_moved_packages_are_named_with_both_versions():
    """Also those that only one of the two has; equal ones are left out."""
    one = {"base-files": "13.8", "openssl": "3.5.1-1", "gone": "1"}
    two = {"base-files": "13.8", "openssl": "3.5.1-2", "new": "2"}

    assert layers.compare_packages(one, two) == [
        "gone 1 and none",
        "new none and 2",
        "openssl 3.5.1-1 and 3.5.1-2",
    ]
