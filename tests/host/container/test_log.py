"""A run's output on its way to the log and to the terminal."""

import io

import pytest

from samerun.host.container.log import Plain, Sink

COLORED = (
    b"\x1b[1;31mred\x1b[0m \x1b[2K\x1b]0;title\x07x\x1b]52;c;AAAA\x1b\\y\r\n\xc3\xa4 [0m 100%\n"
)
TEXT = b"red xy\r\n\xc3\xa4 [0m 100%\n"


@pytest.mark.parametrize("size", [1, 2, 3, 5, 1000])
def test_a_log_has_the_text_without_colors_however_it_is_cut(size):
    """A sequence may begin in one chunk and end in another."""
    plain = Plain()
    chunks = [COLORED[i : i + size] for i in range(0, len(COLORED), size)]

    assert b"".join(plain.of(chunk) for chunk in chunks) == TEXT


def test_what_only_looks_like_a_sequence_is_kept():
    """A title that never ends holds nothing back for long."""
    plain = Plain()

    assert plain.of(b"\x1b]" + b"a" * 300) + plain.of(b"b") == b"\x1b]" + b"a" * 300 + b"b"
    assert plain.of(b"\x1b[31") == b""
    assert plain.of(b"mred") == b"red"


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_colors_reach_a_terminal_and_no_file():
    """Whoever prints them on a terminal wants them."""
    for stream, expected in ((Terminal(), COLORED), (io.StringIO(), TEXT)):
        Sink(stream).write(COLORED)
        assert stream.getvalue() == expected.decode()


def test_a_closed_pipe_ends_only_the_copy_to_it():
    """`invoke train … | head`: the log has all lines in any case."""

    class Closed(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    sink = Sink(Closed())
    for _ in range(2):
        sink.write(b"line\n")
