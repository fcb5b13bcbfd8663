"""The longest test, so by itself: the image from nothing, twice."""

import json
import subprocess

from driving import ROOT, command, environment


def test_the_image_comes_out_the_same_from_nothing(image):
    """Other folder, times and environment, no cache: base and image are the same again."""
    other = environment(TZ="Asia/Tokyo", LANG="de_DE.UTF-8", UNRELATED="x" * 3000)
    line = command("verify", "--json")
    done = subprocess.run(line, cwd=ROOT, env=other, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

    verdict = json.loads(done.stdout)
    # A package that Debian replaced since the build is named; nothing else may differ.
    assert all(" and " in package for package in verdict["moved"])
    for name in ("digest", "layers_digest", "config_digest"):
        assert verdict["built"][name] == verdict["rebuilt"][name] == image[name]
