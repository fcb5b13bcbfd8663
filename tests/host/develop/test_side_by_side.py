"""Commands that run at once."""

import sys

from samerun.host.develop import side_by_side
from samerun.host.develop.side_by_side import Part


def python(code):
    return (sys.executable, "-c", code)


def run(tmp_path, *parts):
    said = []
    outcomes = side_by_side.run(parts, root=tmp_path, logs=tmp_path / "logs", say=said.append)
    return {outcome.name: outcome for outcome in outcomes}, "\n".join(said)


def test_parts_run_at_once(tmp_path):
    """Each waits for what the other writes: one after the other they would never end."""
    wait = "import pathlib, time\nwhile not pathlib.Path('{}').exists(): time.sleep(0.01)"
    write = "import pathlib; pathlib.Path('{}').touch()"
    parts = [
        Part(name=one, commands=(python(write.format(one)), python(wait.format(other))))
        for one, other in (("a", "b"), ("b", "a"))
    ]

    outcomes, said = run(tmp_path, *parts)

    assert {name: outcome.code for name, outcome in outcomes.items()} == {"a": 0, "b": 0}
    assert " s  a: passed" in said


def test_failure_ends_its_part_and_no_other(tmp_path):
    """The commands behind it are left out; its output and exit code are said."""
    bad = (python("print('why'); raise SystemExit(3)"), python("print('never')"))
    good = (python("print('fine')"),)

    outcomes, said = run(
        tmp_path, Part(name="bad part", commands=bad), Part(name="good", commands=good)
    )

    assert (outcomes["bad part"].code, outcomes["good"].code) == (3, 0)
    assert "why\n" in said
    assert "fine\n" in said
    assert "never\n" not in said
    assert "bad part: exit code 3" in said
    assert (tmp_path / "logs" / "bad-part.log").is_file()
