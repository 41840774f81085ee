"""Traces: what a collector of OpenTelemetry gets, and that one which is away or hangs costs nothing."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import asyncpg
import pytest

from service.auth.secrets import new_token
from tests.conftest import PASSWORD
from tests.support.collector import Collector, collector_on
from tests.support.servers import ROOT, Service, environment_of, free_port, piccolo, worker_of_its_own

pytestmark = pytest.mark.slow  # a process each

PRODUCTION = {"ENVIRONMENT": "production", "ALLOWED_HOSTS": "127.0.0.1", "SECRET_KEY": "0123456789abcdef" * 2}
AT_ONCE = {"OTEL_BSP_SCHEDULE_DELAY": "50"}  # milliseconds
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TOKEN = new_token("mail")
UNHINDERED = 2  # seconds of a request on a busy machine; an export that fails takes ten


@pytest.fixture(scope="module")
def database(fresh_database: str) -> str:
    assert piccolo("migrations", "forwards", "all", **PRODUCTION, DATABASE_URL=fresh_database).returncode == 0
    return fresh_database


@contextmanager
def traced(database: str, port: int, **environment: str) -> Iterator[Service]:
    """A worker that exports to this port."""
    endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}"}
    with worker_of_its_own(**PRODUCTION | endpoint | environment, DATABASE_URL=database) as service:
        yield service.start()


@pytest.fixture(scope="module")
def both(database: str) -> Iterator[tuple[Service, Collector]]:
    with collector_on(port := free_port()) as collector, traced(database, port, **AT_ONCE) as service:
        yield service, collector


def test_a_sign_up_and_a_list_are_chains_of_spans(both: tuple[Service, Collector]) -> None:
    service, collector = both
    account = {"email": "ada@example.org", "username": "ada_of_traces", "password": PASSWORD}
    with service.client() as client:
        assert client.post("/v1/users", json=account, headers={"X-Request-ID": "sign-up"}).status_code == 201
        session = client.post("/v1/sessions", json={"login": "ada_of_traces", "password": PASSWORD})
        client.headers["Authorization"] = f"Bearer {session.json()['token']}"
        assert client.post("/v1/characters", json={"name": "Miranda"}).status_code == 201
        found = client.get("/v1/characters", params={"q": "Mirand"}, headers={"X-Request-ID": "list"})
    assert [item["name"] for item in found.json()["items"]] == ["Miranda"]

    for request_id, name, path, status, queries in (
        ("sign-up", "POST /v1/users", "/v1/users", 201, ["BEGIN", "users.queries._CREATE", "COMMIT"]),
        ("list", "GET /v1/characters", "/v1/characters", 200, ["lists.CharacterQuery.page"]),
    ):
        request, *inner = collector.wait_for(request_id)
        assert (request.name, request.kind, request.parent, request.failed) == (name, "SERVER", "", False)
        assert request.attributes == {
            "http.request.method": name.split()[0],
            "http.response.status_code": status,
            "http.route": path,
            "url.path": path,
            "url.scheme": "http",
            "request_id": request_id,
        }
        assert request.resource["service.name"] == "character-service"
        assert [span.name for span in inner if span.name in queries] == queries
        for span in inner:
            assert (span.kind, span.parent, span.failed) == ("CLIENT", request.id, False)
            assert span.attributes == {"db.system.name": "postgresql", "db.query.summary": span.name}
            assert request.begin <= span.begin <= span.end <= request.end
        (line,) = service.access_lines(request_id, 1)
        assert line["trace_id"] == request.trace

    for secret in (PASSWORD, "ada", "Mirand", session.json()["token"][:20], " WHERE ", PRODUCTION["SECRET_KEY"]):
        assert secret.encode() not in collector.received


def test_simultaneous_reads_of_rows_have_a_span_in_each_request(both: tuple[Service, Collector]) -> None:
    service, collector = both
    path = "/v1/templates/01a218ff-f7ad-7aa4-af6b-f2c2b1731b86"
    ids = [f"by-id-{number}" for number in range(24)]
    with service.client() as client, ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda each: client.get(path, headers={"X-Request-ID": each}).status_code, ids))
    assert found == [404] * len(ids)
    for each in ids:
        request, *inner = collector.wait_for(each)
        assert request.name.startswith("GET /v1/templates/{")
        assert [(span.name, span.parent) for span in inner] == [("templates.queries._GET", request.id)]


@pytest.mark.parametrize(
    ("flags", "is_exported"), [("01", True), ("00", False)], ids=["sampled", "not sampled by the client"]
)
def test_the_trace_of_a_client_is_continued(both: tuple[Service, Collector], flags: str, is_exported: bool) -> None:
    service, collector = both
    trace = TRACE[:-2] + flags
    headers = {"traceparent": f"00-{trace}-{PARENT}-{flags}", "X-Request-ID": f"continued-{flags}"}
    with service.client() as client:
        client.get("/v1/characters", headers=headers)
        client.get("/v1/characters", headers={"X-Request-ID": f"after-{flags}"})
    collector.wait_for(f"after-{flags}")
    roots = [span for span in collector.spans if span.trace == trace and span.parent == PARENT]
    assert [span.name for span in roots] == ["GET /v1/characters"] * is_exported
    (line,) = service.access_lines(f"continued-{flags}", 1)
    assert line["trace_id"] == trace


@pytest.mark.parametrize("given", ["", "00", f"00-{TRACE}-{'0' * 16}-01", f"ff-{TRACE}-{PARENT}-01", TOKEN, "\xff" * 9])
def test_a_traceparent_that_is_not_valid_is_ignored(both: tuple[Service, Collector], given: str) -> None:
    service, collector = both
    own = f"invalid-{abs(hash(given))}"
    with service.client() as client:
        headers = {"traceparent": given.encode("latin-1"), "X-Request-ID": own.encode()}
        assert client.get("/v1/characters", headers=headers).status_code == 200
    request, *_ = collector.wait_for(own)
    assert (request.parent, request.trace != TRACE) == ("", True)


@pytest.mark.parametrize(
    ("path", "masked", "name"),
    [
        (f"/v1/users/{TOKEN}", "/v1/users/chm_***", "GET /v1/users/{username}"),
        (f"/v1/password-resets/{TOKEN[4:]}", "/v1/password-resets/***", "GET"),
        (f"/{TOKEN}/{'a' * 9_000}?token={TOKEN}", "/chm_***/", "GET"),
        (f"/v1/characters?q={TOKEN}&unknown={TOKEN}", "/v1/characters", "GET /v1/characters"),
    ],
)
def test_tokens_are_masked(both: tuple[Service, Collector], path: str, masked: str, name: str) -> None:
    service, collector = both
    own = f"masked-{len(path)}"
    with service.client() as client:
        assert client.get(path, headers={"X-Request-ID": own, "User-Agent": TOKEN, "tracestate": TOKEN}).is_error
    request, *_ = collector.wait_for(own)
    assert (request.name, request.attributes["url.path"].startswith(masked)) == (name, True)
    assert TOKEN[4:30].encode() not in collector.received


async def test_a_failed_query_fails_its_span_and_that_of_the_request(database: str) -> None:
    impatient = AT_ONCE | {"DATABASE_LOCK_TIMEOUT": "0.1"}
    with collector_on(port := free_port()) as collector, traced(database, port, **impatient) as service:
        other = await asyncpg.connect(database)
        async with other.transaction():
            await other.execute("LOCK TABLE users")
            with service.client() as client:
                answer = client.get("/v1/users/ada", headers={"X-Request-ID": "failed"})
        await other.close()
        assert answer.status_code == 503
        request, query = collector.wait_for("failed")
        assert (request.failed, request.attributes["http.response.status_code"]) == (True, 503)
        assert (query.name, query.failed) == ("users.queries._GET_PROFILE", True)
        assert query.attributes["error.type"] == "LockNotAvailableError"
        lines = [line for line in service.output.splitlines() if '"request_id":"failed"' in line]
        assert len(lines) == 2  # the warning and the access line
        assert all(f'"trace_id":"{request.trace}"' in line for line in lines)


def test_a_collector_that_is_away_costs_one_line_in_the_log(database: str) -> None:
    with traced(database, free_port(), **AT_ONCE) as service, service.client() as client:
        began = time.monotonic()
        while time.monotonic() - began < 4:
            assert client.get("/v1/characters").elapsed.total_seconds() < UNHINDERED
        assert service.stop() == -signal.SIGTERM
        assert time.monotonic() - began < 15
        lines = [line for line in service.output.splitlines() if "Traces: " in line]
        assert len(lines) == 1, lines
        assert "Traceback" not in service.output


def test_a_collector_that_hangs_slows_neither_requests_nor_the_stop(database: str) -> None:
    bounded = AT_ONCE | {"OTEL_BSP_MAX_QUEUE_SIZE": "64", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "32"}
    with collector_on(port := free_port()) as collector, traced(database, port, **bounded) as service:
        collector.answers.clear()
        with service.client() as client:
            durations = [client.get("/v1/characters").elapsed.total_seconds() for _ in range(300)]
        assert max(durations) < UNHINDERED
        assert collector.attempts >= 1
        began = time.monotonic()
        assert service.stop() == -signal.SIGTERM
        assert time.monotonic() - began < 15
        assert collector.spans == []
        assert len([line for line in service.output.splitlines() if "Traces: " in line]) == 1


def test_the_last_spans_are_exported_at_the_stop(database: str) -> None:
    rarely = {"OTEL_BSP_SCHEDULE_DELAY": "600000", "OTEL_SERVICE_NAME": "heroes"}
    with collector_on(port := free_port()) as collector, traced(database, port, **rarely) as service:
        with service.client() as client:
            client.get("/v1/characters", headers={"X-Request-ID": "last"})
        assert collector.spans == []
        assert service.stop() == -signal.SIGTERM
        assert collector.wait_for("last")[0].resource["service.name"] == "heroes"


def test_a_sampler_of_the_sdk_decides(database: str) -> None:
    never = AT_ONCE | {"OTEL_TRACES_SAMPLER": "always_off"}
    with collector_on(port := free_port()) as collector, traced(database, port, **never) as service:
        with service.client() as client:
            client.get("/v1/characters", headers={"X-Request-ID": "unsampled"})
        assert len(service.access_lines("unsampled", 1)[0]["trace_id"]) == 32
        assert service.stop() == -signal.SIGTERM
        assert collector.spans == []


def test_an_invalid_variable_of_the_sdk_ends_the_start_in_one_line(database: str) -> None:
    faulty = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_BSP_MAX_QUEUE_SIZE": "10"}
    with worker_of_its_own(**PRODUCTION | faulty, DATABASE_URL=database) as service:
        service.launch()
        assert service.wait() != 0
        assert "The variables OTEL_* are not valid: max_export_batch_size must be" in service.output
        assert "Traceback" not in service.output


@pytest.mark.parametrize(("endpoint", "is_imported"), [("", "False"), ("http://127.0.0.1:4318", "True")])
def test_without_traces_nothing_is_imported(endpoint: str, is_imported: str) -> None:
    code = "import sys, service.app; print('opentelemetry.sdk' in sys.modules)"
    environment = environment_of(OTEL_EXPORTER_OTLP_ENDPOINT=endpoint)
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == is_imported, done.stderr
