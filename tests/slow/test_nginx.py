"""deploy/nginx.conf with Debian's nginx in front of the real service. Only the two addresses in it are changed."""

import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from service.database import embedded
from tests.conftest import DATA_DIR
from tests.support.event_stream import stream
from tests.support.pictures import draw_picture
from tests.support.servers import (
    ROOT,
    Service,
    directory_of_its_own,
    free_port,
    member_of,
    wait_until,
    worker_of_its_own,
)

NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(NGINX is None, reason="nginx is missing: apt-get install nginx-light"),
    pytest.mark.skipif(os.geteuid() != 0, reason="Debian's nginx keeps its files where only root may write"),
]

MIB = 1024 * 1024
BEHIND = {
    "ENVIRONMENT": "production",
    "ALLOWED_HOSTS": "127.0.0.1",
    "SECRET_KEY": "0123456789abcdef" * 2,
    "TRUSTED_PROXIES": "127.0.0.1",
}


@pytest.fixture(scope="module")
def service(database: None) -> Iterator[Service]:
    with worker_of_its_own(DATABASE_URL=embedded.dsn(DATA_DIR), **BEHIND) as service:
        yield service.start()


@pytest.fixture(scope="module")
def port(service: Service) -> Iterator[int]:
    """Where nginx listens."""
    port = free_port()
    with nginx_before(port, service):
        yield port


@contextmanager
def nginx_before(port: int, *services: Service) -> Iterator[None]:
    with directory_of_its_own() as directory:
        configuration = directory / "nginx.conf"
        configuration.write_text(configured(port, [service.port for service in services]))
        nginx = start_nginx(configuration)
        try:
            wait_until(lambda: answers(port), "nginx did not answer", patience=10)
            yield
        finally:
            nginx.send_signal(signal.SIGTERM)
            nginx.wait(10)


def configured(here: int, services: list[int]) -> str:
    text = (ROOT / "deploy" / "nginx.conf").read_text()
    servers = " ".join(f"server 127.0.0.1:{service} max_fails=0;" for service in services)
    first, second = "server 127.0.0.1:8000 max_fails=0;", "# server 127.0.0.2:8000 max_fails=0;"
    for given, ours in ((second, ""), (first, servers), ("listen 80;", f"listen 127.0.0.1:{here};")):
        assert text.count(given) == 1
        text = text.replace(given, ours)
    return text


def start_nginx(configuration: Path) -> "subprocess.Popen[bytes]":
    assert NGINX is not None
    ours = f"daemon off; error_log stderr; pid {configuration.parent}/nginx.pid;"
    return subprocess.Popen([NGINX, "-c", configuration, "-g", ours])


def answers(port: int) -> bool:
    with suppress(httpx.TransportError):
        return httpx.get(f"http://127.0.0.1:{port}/health/live").status_code == 200
    return False


@pytest.fixture
def client(port: int) -> Iterator[httpx.Client]:
    """At an address of its own."""
    transport = httpx.HTTPTransport(local_address="127.0.0.5")
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20, transport=transport) as client:
        yield client


def test_requests_and_their_ids_pass_and_the_service_knows_whose_they_are(
    service: Service, client: httpx.Client
) -> None:
    headers = {"X-Request-ID": "through-the-proxy", "X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https"}
    answer = client.get("/v1/characters?limit=5", headers=headers)
    assert answer.status_code == 200
    assert answer.headers.get_list("X-Request-ID") == ["through-the-proxy"]
    assert [line["client"] for line in service.access_lines("through-the-proxy", 1)] == ["127.0.0.5"]


def test_answers_pass_as_they_are(client: httpx.Client) -> None:
    answer = client.get("/openapi.json")
    assert answer.headers["Content-Encoding"] in ("br", "gzip")
    assert answer.headers["Server"] == "nginx", "and no version"
    assert client.head("/v1/characters").status_code == 200
    assert client.options("/v1/characters").headers["Allow"] == "GET, HEAD, OPTIONS, POST"
    assert client.get("/v1/characters?limit=0").json()["errors"][0]["parameter"] == "limit"


@pytest.mark.parametrize(
    "path",
    [
        "/metrics", "/metrics/", "/metrics//", "//metrics", "//metrics//", "/metrics?x", "/metrics/?x", "/%6detrics",
        "/metrics%2F", "/%2Fmetrics", "/./metrics/", "/health/../metrics/", "/health/%2e%2e/metrics/",
    ],
)  # fmt: skip
def test_no_spelling_of_the_metrics_passes(service: Service, port: int, path: str) -> None:
    """Sent as it is, as a client would change it."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert b"http_requests" not in answer
    assert b"X-Request-ID" not in answer, "the service was not asked"
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"Content-Type: application/problem+json" in head
    assert json.loads(body)["type"] == "/problems/not-found"


@pytest.mark.parametrize(
    ("path", "most"),
    [
        ("/v1/characters", MIB),
        ("/v1/users/me/avatar", 11 * MIB),
        ("/v1/characters/018f0000-0000-7000-8000-000000000000/portrait", 11 * MIB),
        ("/v1/imports", 50 * MIB),
    ],
)
def test_bodies_are_bounded(client: httpx.Client, path: str, most: int) -> None:
    assert client.put(path, content=bytes(most)).headers["X-Request-ID"], "it was the service that answered"
    for body in (bytes(most + 1), iter([bytes(most), b"0"])):
        answer = client.put(path, content=body)
        assert answer.status_code == 413
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.json()["type"] == "/problems/too-large"


async def test_each_change_passes_at_once(service: Service, port: int) -> None:
    async with member_of(service.url, "follower") as member, stream(f"http://127.0.0.1:{port}", member) as reader:
        await reader.begin()
        for number in range(3):
            made = (await member.post("/v1/characters", json={"name": f"{number}"})).json()
            assert await reader.changes(1) == [(made["id"], 1, False)]


async def test_a_portrait_of_ten_mebibytes_in_a_form_passes(service: Service, port: int) -> None:
    async with member_of(service.url, "painter") as member:
        made = (await member.post("/v1/characters", json={"name": "Mira"})).json()
        picture = draw_picture("PNG")
        largest = picture + bytes(10 * MIB - len(picture))
        answer = await member.put(
            f"http://127.0.0.1:{port}/v1/characters/{made['id']}/portrait", files={"file": ("mira.png", largest)}
        )
        assert answer.status_code in (200, 201), answer.text


def test_urls_and_headers_are_bounded(client: httpx.Client) -> None:
    for length in (9_000, 30_000):
        assert client.get(f"/v1/characters?q={'a' * length}").status_code == 414
    assert client.get("/v1/characters", headers={"X": "a" * 12_000}).status_code == 200
    assert (
        client.get("/v1/characters", headers={"X": "a" * 15_000, "Y": "a" * 15_000, "Z": "a" * 9_000}).status_code
        == 431
    )
    assert client.get("/v1/characters", headers={"X": "a" * 70_000}).status_code == 400


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /v1/characters HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Request-ID: too-slow\r\n",
        b"POST /v1/users HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Request-ID: too-slow\r\nContent-Length: 9\r\n\r\n{",
    ],
    ids=["header", "body"],
)
def test_a_slow_client_is_dropped_and_the_service_never_hears_of_it(service: Service, port: int, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as slow:
        began = time.monotonic()
        slow.sendall(sent)
        with suppress(ConnectionResetError):
            assert slow.recv(1000).partition(b"\r\n")[0] in (b"", b"HTTP/1.1 408 Request Time-out")
    assert 8 < time.monotonic() - began < 15
    assert "too-slow" not in service.output


def test_one_address_has_no_more_than_its_share_of_connections(client: httpx.Client, service: Service) -> None:
    service.send(signal.SIGSTOP)
    try:
        held = [socket.create_connection((client.base_url.host, client.base_url.port or 0)) for _ in range(100)]
        for each in held:
            each.sendall(b"GET /v1/nowhere HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        with httpx.Client(base_url=client.base_url, timeout=20) as same:
            wait_until(lambda: same.get("/v1/nowhere", timeout=5).status_code == 429, "not limited", patience=10)
            refused = same.get("/v1/nowhere")
        assert refused.json()["type"] == "/problems/too-many-requests"
        assert refused.headers["Retry-After"] == "1"
    finally:
        service.send(signal.SIGCONT)
    for each in held:
        assert b"404" in each.recv(1000)
        each.close()


def test_two_services_restarted_in_turn_fail_no_get(database: None) -> None:
    port, dsn = free_port(), embedded.dsn(DATA_DIR)
    statuses: Counter[int] = Counter()
    restarted = threading.Event()

    def keep_reading() -> None:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
            while not restarted.is_set():
                statuses[client.get("/v1/characters?limit=1").status_code] += 1

    with (
        worker_of_its_own(DATABASE_URL=dsn, **BEHIND) as one,
        worker_of_its_own(DATABASE_URL=dsn, **BEHIND) as other,
        ThreadPoolExecutor(4) as readers,
    ):
        one.start()
        other.start()
        with nginx_before(port, one, other):
            reading = [readers.submit(keep_reading) for _ in range(4)]
            try:
                for service in (one, other) * 2:
                    service.stop()
                    service.start()
            finally:
                restarted.set()
            for each in reading:
                each.result()
    assert statuses.keys() == {200}, statuses
    assert statuses[200] > 100


def test_without_the_service_there_is_a_problem_that_says_when_to_come_back(
    service: Service, client: httpx.Client
) -> None:
    service.stop()
    answer = client.get("/v1/characters")
    assert answer.status_code == 503
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["Retry-After"] == "1"
    assert answer.json()["type"] == "/problems/unavailable"
    service.start()
    assert client.get("/v1/characters").status_code == 200
