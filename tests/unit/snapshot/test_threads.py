"""Several threads may decode the same struct for the first time, and the process lives."""

import subprocess
import sys

DECODE_AT_ONCE = """
import sys, threading
import msgspec
import meshgate.snapshot.model
from meshgate.snapshot.kubernetes import Pod

def decode():
    together.wait()
    msgspec.json.decode(b'{"metadata": {"name": "web"}}', type=Pod)

sys.setswitchinterval(1e-6)
together = threading.Barrier(8)
threads = [threading.Thread(target=decode) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


def test_structs_are_known_before_there_are_threads() -> None:
    # without the decoder in model.py about every second of these processes dies
    codes = [
        subprocess.run([sys.executable, "-c", DECODE_AT_ONCE], check=False).returncode
        for _ in range(6)
    ]

    assert codes == [0] * 6
