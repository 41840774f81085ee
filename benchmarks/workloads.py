"""What is asked of every server, in the same bytes where it can be."""

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from benchmarks.dataset import BENCH, execute, fetch, sign_in
from benchmarks.load import ETAG, Job, Request
from benchmarks.servers import ON_NODE, OURS, Server
from service.commands.synthetic_data import CAST

CONNECTIONS = 16
DEPTH = 10_000  # how many items are before the deep page
MOST_IDS = 4_800  # more than Litestar remembers the routes of

WORDS = ("observatory", "Sundays", "reactor", "photographs")  # like no name: the peers forgive no typos
FILTERS = ("style=anime&tags=harbour", "style=fantasy&tags=music", "style=vintage&tags=sea", "style=cartoon&tags=noir")


class Given(NamedTuple):
    """What the requests are made of."""

    dsn: str
    token: str
    ids: list[str]
    related: list[str]  # whose relationships make a graph
    own: list[str]  # one for each connection to change
    create: bytes


class Workload(NamedTuple):
    name: str
    requests: Callable[[Given, Server], list[Request]]  # of all connections, dealt among them
    by: tuple[str, ...] | None = None  # the servers that can do it; none: all
    writes: bool = False
    each_its_own: bool = False  # a connection has one request of its own, and the ETag of what it changes

    def is_for(self, server: Server) -> bool:
        return self.by is None or server.name in self.by


def prepare(dsn: str, ours: Server) -> Given:
    """Signs in, and makes what will be changed."""
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
    dealt = [requests[number::CONNECTIONS] or requests for number in range(CONNECTIONS)]
    etags = []
    if workload.each_its_own:
        etags = [server.ask("GET", f"/v1/characters/{own}").headers["etag"].encode() for own in given.own]
    return Job(server.port, dealt, seconds, rate=rate, etags=etags)


def tidy(workload: Workload, given: Given) -> None:
    """After a workload that makes rows, so that the next one finds the tables as this one did."""
    if workload.writes:
        who = f"(SELECT id FROM users WHERE username = '{BENCH['username']}')"
        asyncio.run(execute(given.dsn, f"DELETE FROM characters WHERE visibility = 'private' AND owner = {who}"))
        asyncio.run(execute(given.dsn, "VACUUM characters, revisions"))


def _creation(dsn: str, like: str) -> Any:
    """Complete attributes, so that no server needs to know of defaults."""
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
        if following is None:  # little data
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
    """Two changes in turn for each connection, of a character of its own."""
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
