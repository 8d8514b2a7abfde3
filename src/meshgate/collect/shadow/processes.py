"""Child processes that end with this one, also if it is killed."""

import ctypes
import os
import signal
import sys

# A shell's exit code for a missing program.
NO_PROGRAM = 127

# Has the kernel kill it when its parent ends (Linux: PR_SET_PDEATHSIG), then becomes the program.
# Not done between fork and exec: that is unsafe with gRPC's threads.
_GUARD = """
import ctypes, os, resource, signal, sys
parent, no_program, memory, *command = sys.argv[1:]
prctl = getattr(ctypes.CDLL(None), "prctl", None)
if prctl:
    prctl(1, signal.SIGKILL)
if os.getppid() == int(parent):  # else the parent has ended already
    if int(memory):
        resource.setrlimit(resource.RLIMIT_DATA, (int(memory), int(memory)))
    try:
        os.execv(command[0], command)
    except OSError as error:
        print(error, file=sys.stderr)
    sys.exit(int(no_program))
"""


def guarded(command: list[str], memory: int = 0) -> list[str]:
    """Return the command as a process that does not outlive the thread that starts it.

    Args:
        command: the program and its arguments.
        memory: MiB that it may write to, 0 for all there is.  Its address space is not bounded:
            Go and Envoy reserve much of that.
    """
    return [
        *(sys.executable, "-I", "-S", "-c", _GUARD),
        *(str(os.getpid()), str(NO_PROGRAM), str(memory * 2**20), *command),
    ]


def end_with(parent: int) -> None:
    """Have this process end, with all that it cleans up, when the thread that started it ends.

    Args:
        parent: the PID of that thread's process, which may have ended already.
    """
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, lambda number, _: sys.exit(128 + number))
    if prctl := getattr(ctypes.CDLL(None), "prctl", None):
        prctl(1, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit(128 + signal.SIGTERM)
