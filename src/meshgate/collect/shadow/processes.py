"""Programs that are started here end when we do, also when we are killed."""

import os
import sys

# What a shell exits with where there is no such program.
NO_PROGRAM = 127

# Asks the kernel (Linux: PR_SET_PDEATHSIG) for its own end when its parent is gone, and becomes the
# program.  Not done between fork and exec: gRPC's threads do not take that.
_GUARD = """
import ctypes, os, resource, signal, sys
parent, no_program, memory, *command = sys.argv[1:]
prctl = getattr(ctypes.CDLL(None), "prctl", None)
if prctl:
    prctl(1, signal.SIGKILL)
if os.getppid() == int(parent):  # else it has gone already, and nobody will tell
    if int(memory):
        resource.setrlimit(resource.RLIMIT_DATA, (int(memory), int(memory)))
    try:
        os.execv(command[0], command)
    except OSError as error:
        print(error, file=sys.stderr)
    sys.exit(int(no_program))
"""


def guarded(command: list[str], memory: int = 0) -> list[str]:
    """The command as a process that does not outlive the thread that starts it.

    Args:
        memory: MiB that it may write to, 0 for all there is.  Its address space is not bounded:
            Go and Envoy reserve much of that.
    """
    return [
        *(sys.executable, "-I", "-S", "-c", _GUARD),
        *(str(os.getpid()), str(NO_PROGRAM), str(memory * 2**20), *command),
    ]
