"""The workloads: requests that are the same bytes for every server, where possible."""

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from benchmarks.dataset import BENCH, execute, fetch, sign_in
from benchmarks.load import ETAG, Job, Request
from benchmarks.servers import ON_NODE, OURS, Server
from service.commands.synthetic_data import CAST

CONNECTIONS = 16
DEPTH = 10_000  # items before the deep page
MOST_IDS = 4_800  # more than Litestar's cache of routes holds

# Similar to no name, because the peers do not tolerate typos
WORDS = ("observatory", "Sundays", "reactor", "photographs")
FILTERS = ("style=anime&tags=harbour", "style=fantasy&tags=music", "style=vintage&tags=sea", "style=cartoon&tags=noir")


class Given(NamedTuple):
    """The data that requests are made from."""

    dsn: str
    token: str
    ids: list[str]
    related: list[str]  # characters with many relationships
    own: list[str]  # the character that each connection changes
    create: bytes


class Workload(NamedTuple):
    name: str
    requests: Callable[[Given, Server], list[Request]]  # of all connections together
    by: tuple[str, ...] | None = None  # the servers that support it; None for all
    writes: bool = False
    each_its_own: bool = False  # each connection changes its own character and tracks its ETag

    @property
    def is_write(self) -> bool:
        return self.writes or self.each_its_own

    def is_for(self, server: Server) -> bool:
        return self.by is None or server.name in self.by


def prepare(dsn: str, ours: Server) -> Given:
    """Signs in, and creates the characters that will be changed."""
    token = sign_in(ours)
    found = asyncio.run(
        fetch(
            dsn, "SELECT id FROM characters WHERE visibility = 'public' AND id < '01900000-0000-0000-0000-000000000000'"
        )
    )
    ids = sorted(str(row["id"]) for row in found)
    create = _creation(dsn, ids[0])
    own = []
    for _ in range(CONNECTIONS):
        answer = ours.ask("POST", "/v1/characters", token=token, body=create | {"visibility": "unlisted"})
        if answer.status != 201:
            raise RuntimeError(f"{answer.status}: {answer.body!r}")
        own.append(answer.json["id"])
    return Given(
        dsn=dsn,
        token=token,
        ids=ids[:: max(1, len(ids) // MOST_IDS)][:MOST_IDS],
        related=ids[5 :: CAST * 10][:MOST_IDS],
        own=own,
        create=msgspec.json.encode(create),
    )


def job(workload: Workload, given: Given, server: Server, seconds: float, *, rate: float | None = None) -> Job:
    requests = workload.requests(given, server)
    by_connection = [requests[number::CONNECTIONS] or requests for number in range(CONNECTIONS)]
    etags = []
    if workload.each_its_own:
        etags = [server.ask("GET", f"/v1/characters/{own}").headers["etag"].encode() for own in given.own]
    return Job(server.port, by_connection, seconds, rate=rate, etags=etags)


def tidy(workload: Workload, given: Given) -> None:
    """Deletes the rows that a workload has created, so that the next one finds the same tables."""
    if workload.writes:
        owner = f"(SELECT id FROM users WHERE username = '{BENCH['username']}')"
        asyncio.run(execute(given.dsn, f"DELETE FROM characters WHERE visibility = 'private' AND owner = {owner}"))
        asyncio.run(execute(given.dsn, "VACUUM characters, revisions"))


def _creation(dsn: str, like: str) -> Any:
    """The body has all attributes, so that no server needs the defaults of the template."""
    row = asyncio.run(fetch(dsn, "SELECT template, attributes FROM characters WHERE id = $1", like))[0]
    return {
        "name": "Ottoline Saltmarsh",
        "description": "Repairs clocks on the slow train and is older than the photographs say.",
        "style": "fantasy",
        "tags": ["clockwork", "traveller"],
        "attributes": msgspec.json.decode(row["attributes"]),
        "template": row["template"],
    }


def _get(path: str, *, status: int = 200, **headers: str) -> Request:
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return Request(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{lines}\r\n".encode(), status)


def _write(method: str, path: str, given: Given, body: bytes, *, status: int, headers: bytes = b"") -> Request:
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {given.token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    )
    return Request(head.encode() + headers + b"\r\n" + body, status)


def _one_by_id(given: Given, _: Server) -> list[Request]:
    return [_get(f"/v1/characters/{one}") for one in given.ids]


def _not_modified(given: Given, server: Server) -> list[Request]:
    known = [(one, server.ask("GET", f"/v1/characters/{one}").headers["etag"]) for one in given.ids[:CONNECTIONS]]
    return [_get(f"/v1/characters/{one}", status=304, If_None_Match=etag) for one, etag in known]


def _page(_: Given, __: Server) -> list[Request]:
    return [_get("/v1/characters")]


def _deep_page(_: Given, server: Server) -> list[Request]:
    cursor = None
    for _page in range(DEPTH // 100):
        path = "/v1/characters?limit=100" + (f"&cursor={cursor}" if cursor else "")
        following = server.get(path)["next_cursor"]
        if following is None:  # there are fewer characters
            break
        cursor = following
    return [_get(f"/v1/characters?cursor={cursor}")]


def _filtered(_: Given, __: Server) -> list[Request]:
    return [_get(f"/v1/characters?{each}") for each in FILTERS]


def _full_text(_: Given, __: Server) -> list[Request]:
    return [_get(f"/v1/characters?q={word}&sort=-created_at") for word in WORDS]


def _create(given: Given, _: Server) -> list[Request]:
    return [_write("POST", "/v1/characters", given, given.create, status=201)]


def _update(given: Given, _: Server) -> list[Request]:
    """Two changes in turn for each connection's own character."""
    bodies = [
        msgspec.json.encode({"description": f"Changed {turn} of two times."}) for turn in ("the first", "the second")
    ]
    if_match = b"If-Match: " + ETAG + b"\r\n"
    return [
        _write("PATCH", f"/v1/characters/{one}", given, body, status=200, headers=if_match)
        for body in bodies
        for one in given.own
    ]


def _graph(given: Given, _: Server) -> list[Request]:
    return [_get(f"/v1/characters/{one}/graph?depth=3") for one in given.related]


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("one by id", _one_by_id),
        Workload("304", _not_modified, by=(OURS, "bare ASGI + asyncpg", *ON_NODE)),
        Workload("page of 20", _page),
        Workload("page at depth", _deep_page),
        Workload("filtered", _filtered),
        Workload("full-text", _full_text),
        Workload("create", _create, writes=True),
        Workload("patch", _update, each_its_own=True),
        Workload("graph", _graph, by=(OURS,)),
    )
}
