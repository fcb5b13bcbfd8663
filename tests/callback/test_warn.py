"""What is lost is heard once, and names the line of the reader's script, or none."""

from __future__ import annotations

import subprocess
import sys
import warnings

from samerun.callback.warn import LoggingWarning, Warner

from .conftest import python_path


def lose(warner, reason="gone"):
    """Lose something inside the package's own guard."""
    with warner.guarded("samples"):
        raise ValueError(reason)


def test_warning_names_the_line_of_the_script():
    """Not that of contextlib, nor one of a library."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        lose(Warner())

    assert [w.filename for w in said] == [__file__]


def said_by(tmp_path, first_line):
    """Return what a script says of two losses of one subject."""
    script = tmp_path / "script.py"
    script.write_text(
        f"import warnings\n{first_line}\n"
        "from samerun.callback.warn import LoggingWarning, Warner\n"
        f"{first_line}\n"
        "warner = Warner()\n"
        "warner.once('samples', 'the samples are lost')\n"
        "warner.once('samples', 'the samples are lost')\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)], check=True, capture_output=True, text=True,
        env=python_path(), timeout=120,
    )  # fmt: skip
    return done.stderr


def test_heard_where_all_warnings_are_switched_off(tmp_path):
    """``filterwarnings("ignore")`` in the first line of a script hides no loss."""
    assert said_by(tmp_path, "warnings.filterwarnings('ignore')").count("samples are lost") == 1
    assert said_by(tmp_path, "pass").count("LoggingWarning: the samples are lost") == 1


def test_not_heard_where_it_is_switched_off_by_name(capsys):
    """Whoever ignores ``LoggingWarning`` does not hear of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LoggingWarning)
        lose(Warner())

    assert capsys.readouterr().err == ""
