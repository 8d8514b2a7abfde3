"""A real object storage on loopback: versitygw, an S3 server on a folder."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.go_programs import built

ACCESS, SECRET = "an-access-key", "the-secret-of-the-storage"


class ObjectStorage(NamedTuple):
    """A bucket, the folder that it is on the server, and what its clients need."""

    url: str
    folder: Path
    environment: dict[str, str]


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[ObjectStorage]:
    """An empty bucket."""
    program = built("versitygw", "ci/go/versitygw")
    folder = tmp_path / "buckets"
    (folder / "mesh-recordings").mkdir(parents=True)
    with socket.create_server(("127.0.0.1", 0)) as chosen:
        address = f"127.0.0.1:{chosen.getsockname()[1]}"
    words = f"--port {address} --quiet posix --sidecar {tmp_path} {folder}".split()
    keys = {"ROOT_ACCESS_KEY": ACCESS, "ROOT_SECRET_KEY": SECRET}
    log = (tmp_path / "storage.log").open("w")
    with (
        log,
        subprocess.Popen(
            [program, *words], env={**os.environ, **keys}, stdout=log, stderr=log
        ) as server,
    ):
        try:
            _wait(address, server)
            yield ObjectStorage(
                url="s3://mesh-recordings",
                folder=folder / "mesh-recordings",
                environment={
                    "AWS_ENDPOINT_URL": f"http://{address}",
                    "AWS_ACCESS_KEY_ID": ACCESS,
                    "AWS_SECRET_ACCESS_KEY": SECRET,
                    "AWS_DEFAULT_REGION": "us-east-1",
                },
            )
        finally:
            server.terminate()


def _wait(address: str, server: "subprocess.Popen[bytes]") -> None:
    host, _, port = address.partition(":")
    for _ in range(200):
        assert server.poll() is None, "versitygw has ended"
        try:
            socket.create_connection((host, int(port)), 1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    pytest.fail("versitygw does not answer")
