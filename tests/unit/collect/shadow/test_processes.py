"""What was started ends with whoever started it, also when that is killed."""

import os
import select
import subprocess
import sys

import pytest

from meshgate.collect.shadow.processes import NO_PROGRAM, guarded

PARENT = """
import subprocess, sys
from meshgate.collect.shadow.processes import guarded
child = subprocess.Popen(guarded(["/bin/cat"]), stdin=int(sys.argv[1]), stdout=int(sys.argv[2]))
child.wait()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's promise is Linux's")
def test_it_is_gone_when_its_parent_was_killed() -> None:
    from_us, to_child = os.pipe()
    from_child, of_child = os.pipe()
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(from_us), str(of_child)], pass_fds=(from_us, of_child)
    )
    os.close(from_us)
    os.close(of_child)
    os.write(to_child, b"up")
    assert os.read(from_child, 2) == b"up"

    parent.kill()
    parent.wait()

    # its end of the pipe is closed by nothing but its own end: its input is still open
    ready, _, _ = select.select([from_child], [], [], 30)
    assert ready, "it outlived its parent"
    assert os.read(from_child, 1) == b""
    os.close(to_child)
    os.close(from_child)


def test_it_becomes_the_program() -> None:
    done = subprocess.run(guarded(["/bin/echo", "a b"]), capture_output=True, check=True)

    assert done.stdout == b"a b\n"


def test_a_program_that_is_not_there_is_told_apart_from_one_that_fails() -> None:
    done = subprocess.run(guarded(["/no/such/program"]), capture_output=True, check=False)

    assert done.returncode == NO_PROGRAM
    assert b"No such file" in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_it_gets_no_more_memory_than_it_may_use() -> None:
    greedy = [sys.executable, "-c", "print(len(bytearray(300 * 2**20)))"]

    bounded = subprocess.run(guarded(greedy, 200), capture_output=True, check=False)

    assert b"MemoryError" in bounded.stderr
    assert subprocess.run(guarded(greedy, 400), check=False, capture_output=True).returncode == 0
