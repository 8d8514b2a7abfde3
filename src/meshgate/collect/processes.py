"""Programs that are started here end when we do, also when we are killed."""

import os
import sys

# What a shell exits with where there is no such program.
NO_PROGRAM = 127

# Asks the kernel (Linux: PR_SET_PDEATHSIG) for its own end when its parent is gone, and becomes the
# program.  Not done between fork and exec: gRPC's threads do not take that.
_GUARD = """
import ctypes, os, signal, sys
parent, no_program, *command = sys.argv[1:]
prctl = getattr(ctypes.CDLL(None), "prctl", None)
if prctl:
    prctl(1, signal.SIGKILL)
if os.getppid() == int(parent):  # else it has gone already, and nobody will tell
    try:
        os.execv(command[0], command)
    except OSError as error:
        print(error, file=sys.stderr)
    sys.exit(int(no_program))
"""


def guarded(command: list[str]) -> list[str]:
    """The command as a process that does not outlive the thread that starts it."""
    return [
        *(sys.executable, "-I", "-S", "-c", _GUARD),
        *(str(os.getpid()), str(NO_PROGRAM), *command),
    ]
