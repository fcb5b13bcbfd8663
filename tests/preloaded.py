"""
Programs in Pythons that have loaded most of what they need: to load it takes the longest.

One process loads it, and forks for each program. Run as a script, this is that process: it
serves on the socket that it is given.
"""

import atexit
import gc
import os
import pickle
import socket
import subprocess
import sys
import tempfile
import threading


class Preloaded:
    """Forks of a process that has run *setup*, which is Python."""

    def __init__(self, setup, **variables):
        self._setup, self._variables = setup, variables
        self._address, self._lock = None, threading.Lock()

    def run(self, code, environment, folder=None, seconds=1800):
        """Run *code* there; return the finished process with its output."""
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
            with open(os.devnull) as nothing:
                ending = self._begin(code, environment, folder, (nothing, out, errors))
            ending.settimeout(seconds)
            done = subprocess.CompletedProcess(code, int(ending.recv(16)))
            ending.close()
            for file in (out, errors):
                file.seek(0)
            done.stdout, done.stderr = out.read().decode(), errors.read().decode()
        return done

    def start(self, code, environment):
        """Start *code* there; return what writes to its input, and what reads its output."""
        theirs_in, ours_out = os.pipe()
        ours_in, theirs_out = os.pipe()
        with open(theirs_in) as given, open(theirs_out, "w") as out:
            ending = self._begin(code, environment, None, (given, out, sys.__stderr__))
        atexit.register(ending.close)
        return os.fdopen(ours_out, "w"), os.fdopen(ours_in)

    def _begin(self, code, environment, folder, files):
        """Have *code* run with these *files*; return what says its exit code once it has ended."""
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(self._serving())
        socket.send_fds(connection, [b"files"], [file.fileno() for file in files])
        asked = pickle.dumps((code, environment, str(folder or os.getcwd())))
        connection.sendall(asked)
        connection.shutdown(socket.SHUT_WR)
        return connection

    def _serving(self):
        """Return the address of the process that forks; it ends with this one."""
        with self._lock:
            if self._address is None:
                address = tempfile.mkdtemp(prefix="preloaded-") + "/socket"
                line = [sys.executable, __file__, address, self._setup]
                env = os.environ | self._variables
                process = subprocess.Popen(line, env=env, stdout=subprocess.PIPE)
                atexit.register(process.kill)
                assert process.stdout.readline(), "what is to be loaded could not be"
                self._address = address
        return self._address


def serve(address, setup):
    """Return the next program, in a process that is to run it."""
    exec(compile(setup, "setup", "exec"), {})
    # What the garbage collector does not touch, the forks share.
    gc.collect()
    gc.freeze()
    server = socket.socket(socket.AF_UNIX)
    server.bind(address)
    server.listen()
    os.write(1, b"ready\n")
    while True:
        connection = server.accept()[0]
        # The first child only starts the second, so that nobody has to wait for that one.
        if os.fork() == 0:
            server.close()
            if os.fork() == 0:
                return attend(connection)
            os._exit(0)
        connection.close()
        os.wait()


def attend(connection):
    """Return the program in the process that is to run it; in its parent, tell how it ended."""
    _, files, _, _ = socket.recv_fds(connection, len(b"files"), 3)
    code, environment, folder = pickle.load(connection.makefile("rb"))
    child = os.fork()
    if child:
        for file in files:
            os.close(file)
        ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        connection.sendall(str(ended).encode())
        os._exit(0)
    connection.close()
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    return code


if __name__ == "__main__":
    program = serve(*sys.argv[1:])
    sys.argv, sys.path[0] = ["-c"], ""
    exec(compile(program, "program", "exec"), {"__name__": "__main__"})
