"""An S3 server for tests: Nanio, which checks signatures and keeps objects as files, on loopback."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

from service.settings import Settings
from tests.support.servers import free_port, wait_until

KEY, SECRET = "tests", "a secret of the tests"


@contextmanager
def s3_server(directory: Path, key: str = KEY, secret: str = SECRET) -> Iterator[Settings]:
    """The settings of a service that keeps its files there."""
    (directory / "files").mkdir(parents=True)
    port = free_port()
    environment = {"NANIO_ACCESS_KEY": key, "NANIO_SECRET_KEY": secret, "PATH": os.environ["PATH"]}
    command = ["nanio", "serve", "--data-dir", str(directory), "--host", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen([sys.executable, "-m", *command], env=environment, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: _answers(port), "the S3 server did not answer")
        yield Settings(
            storage_url="s3://files/uploads",
            s3_endpoint_url=f"http://127.0.0.1:{port}",
            s3_access_key_id=key,
            s3_secret_access_key=secret,
        )
    finally:
        server.terminate()
        server.wait(10)


def _answers(port: int) -> bool:
    with suppress(httpx.TransportError):
        return httpx.get(f"http://127.0.0.1:{port}/").status_code < 500
    return False
