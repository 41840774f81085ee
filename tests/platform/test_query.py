"""The query string: a route takes only the parameters that it names, and only values of their types."""

from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin
from uuid import UUID

import httpx
import msgspec
import pytest
from litestar import Litestar
from litestar.handlers import HTTPRouteHandler

from service.errors import BadRequest
from service.parameters import CURSOR_LENGTH
from service.web.query import _is_list, query_of, read_query
from tests.conftest import character, create, faults
from tests.support.routes import HANDLERS, V1


@pytest.mark.parametrize(
    "parameter",
    [
        "limit=1.0",
        "limit=1e1",
        "limit=%2B1",
        "limit=01",
        f"limit={'9' * 5000}",
        "visibility=null",
        "style=NULL",
        "template=null",
        "template_version=1.0",
        "created_at.gte=1700000000",
        "created_at.gte=null",
    ],
)
async def test_a_list_reads_its_parameters_strictly(stranger: httpx.AsyncClient, parameter: str) -> None:
    answer = await stranger.get(f"/v1/characters?{parameter}")
    assert answer.status_code == 400
    assert faults(answer).keys() == {parameter.partition("=")[0]}


@pytest.mark.parametrize("path", ["graph?depth=1.0", "graph?depth=null", "revisions/1/changes?against=null"])
async def test_other_routes_read_theirs_as_strictly(alice: httpx.AsyncClient, path: str) -> None:
    mira = await character(alice)
    answer = await alice.get(f"/v1/characters/{mira['id']}/{path}")
    assert answer.status_code == 400
    assert faults(answer).keys() == {path.partition("?")[2].partition("=")[0]}


async def test_no_end_of_a_relationship_is_null(alice: httpx.AsyncClient) -> None:
    mira = await character(alice)
    answer = await alice.get(f"/v1/relationships/{mira['id']}?from=null")
    assert answer.status_code == 400
    assert faults(answer) == {"from": "Is not a valid UUID."}


NOBODY = "0199c0de-0000-7000-8000-000000000000"
OF_NO_LIST = "cursor=AAAAAAAAAAAAW10"
TOGETHER = [  # a request, its headers, and the names of all its faults
    (
        "GET /v1/characters?limit=0&other=1&style=x&id.in=x&sort=x&fields=x&expand=x&cursor=x&attributes.a.like=1"
        "&attributes.b.exists=x&created_at.lt=x&owner=alice&owner_id=x&name=a%00",
        {"Idempotency-Key": "a"},
        "limit other style id.in sort fields expand cursor attributes.a.like attributes.b.exists created_at.lt"
        " owner_id owner_id name Idempotency-Key",
    ),
    ("GET /v1/templates?sort=rank&fields=prompt&expand=template&cursor=x", {}, "sort fields expand cursor"),
    ("GET /v1/templates?q=&sort=rank", {}, "q"),  # whether there are ranks depends on a faulty parameter
    (f"GET /v1/templates?limit=0&{OF_NO_LIST}", {}, "limit"),
    (f"GET /v1/templates?{OF_NO_LIST}", {}, "cursor"),
    ("GET /v1/trash?sort=name&fields=x&expand=owner&cursor=x&tags.any=", {}, "sort fields expand cursor tags.any"),
    (
        f"GET /v1/characters/{NOBODY}/relationships?type=x&sort=name&fields=x&expand=x&cursor=x",
        {},
        "type sort fields expand cursor",
    ),
    (f"GET /v1/characters/{NOBODY}?fields=x&expand=x&x=1", {}, "fields expand x"),
    (f"GET /v1/characters/{NOBODY}/card?format=charx&spec=v2&x=1", {}, "spec x"),
    (f"GET /v1/characters/{NOBODY}/revisions/0/changes?against=0", {}, "against number"),
    (f"GET /v1/characters/{NOBODY}/revisions?limit=0&cursor=x", {"Idempotency-Key": "a"},
     "limit cursor Idempotency-Key"),
    ("GET /v1/changes?kind=x&limit=0&after=x", {"Last-Event-ID": "x"}, "kind limit after Last-Event-ID"),
    (
        f"POST /v1/characters/{NOBODY}/revisions/0/restorations?dry_run=1",
        {"If-Match": "3", "Idempotency-Key": "a"},
        "dry_run number If-Match Idempotency-Key",
    ),
    (f"PATCH /v1/relationships/{NOBODY}?from=x&dry_run=1", {"If-Match": "3"}, "from dry_run If-Match"),
    (f"DELETE /v1/templates/{NOBODY}?dry_run=1&x=1", {"If-Match": "W/3"}, "dry_run x If-Match"),
    (
        f"POST /v1/templates/{NOBODY}/versions/99999999999/migration?limit=0&cursor=x&dry_run=1",
        {"Idempotency-Key": "a"},
        "number limit cursor dry_run Idempotency-Key",
    ),
    ("POST /v1/characters?dry_run=1&x=1", {"Idempotency-Key": " "}, "dry_run x Idempotency-Key"),
    (f"PUT /v1/characters/{NOBODY}/portrait?dry_run=1", {"If-Match": "3"}, "dry_run If-Match"),
    ("GET /v1/characters?name=%FF", {"Idempotency-Key": "a"}, "Idempotency-Key"),
    ("GET /v1/characters?" + "&".join(f"attributes.a{number:02}=x" for number in range(12)), {},
     "attributes.a10 attributes.a11"),
]  # fmt: skip


@pytest.mark.parametrize(("request_line", "headers", "expected"), TOGETHER)
async def test_all_faults_of_query_headers_and_path_are_reported_together(
    alice: httpx.AsyncClient, request_line: str, headers: dict[str, str], expected: str
) -> None:
    method, url = request_line.split()
    answer = await alice.request(method, url, headers=headers)
    assert answer.status_code == 400, answer.text
    found = [error.get("parameter") or error.get("header") for error in answer.json()["errors"]]
    assert sorted(found) == sorted(expected.split())


async def test_a_route_that_names_no_parameter_takes_none(alice: httpx.AsyncClient) -> None:
    answer = await alice.get("/v1/users/me?limit=1")
    assert (answer.status_code, faults(answer)) == (400, {"limit": "Is not a known parameter."})


@pytest.mark.parametrize("path", ["characters?cursor=", "changes?after="])
async def test_every_cursor_has_the_same_limit(alice: httpx.AsyncClient, path: str) -> None:
    longest = await alice.get(f"/v1/{path}{'a' * CURSOR_LENGTH}")
    assert "Is not a cursor" in next(iter(faults(longest).values()))
    longer = await alice.get(f"/v1/{path}{'a' * (CURSOR_LENGTH + 1)}")
    assert str(CURSOR_LENGTH) in next(iter(faults(longer).values()))


def test_dry_run_is_a_parameter_where_the_route_makes_dry_runs(app: Litestar) -> None:
    handlers = {
        handler
        for route in app.routes
        for handler in getattr(route, "route_handlers", ())
        if isinstance(handler, HTTPRouteHandler)
    }
    named = {handler.handler_name for handler in handlers if "dry_run" in query_of(handler).__struct_fields__}
    assert named == {handler.handler_name for handler in handlers if handler.opt.get("dry_run")} != set()


PICTURE = "/v1/characters/0199c0de-0000-7000-8000-000000000000/portrait"
INVALID = [  # of parameters that only some routes take; the resource need not exist
    *(f"{path}?{query}" for path in (PICTURE, "/v1/users/me/avatar", "/v1/users/alice/avatar")
      for query in ("v=zz", "v=", "v=8F14E45F0000", "v=8f14e45f000g", "v=8f14e45f00000", "size=65", "size=", "x=1",
                    "v=8f14e45f0000&v=8f14e45f0000")),
    *(f"/v1/characters/0199c0de-0000-7000-8000-000000000000/{query}" for query in (
        "card?format=pdf", "card?spec=v4", "card?spec=", "graph?depth=5", "graph?depth=x", "graph?types=x",
        "revisions/1/changes?against=0", "revisions/1/changes?against=x", "revisions?limit=0",
        "relationships?type=x", "?fields=x", "?expand=x",
    )),
    "/v1/relationships/0199c0de-0000-7000-8000-000000000000?from=x",
    "/v1/templates/0199c0de-0000-7000-8000-000000000000/versions?limit=x",
    "/v1/changes?kind=x", "/v1/changes?after=zz", "/v1/trash?cursor=zz",
]  # fmt: skip


@pytest.mark.parametrize("path", INVALID)
async def test_an_invalid_value_is_refused_before_the_resource_is_looked_for(
    alice: httpx.AsyncClient, path: str
) -> None:
    answer = await alice.get(path.replace("/?", "?"))
    assert answer.status_code == 400, answer.text
    assert [error["parameter"] for error in answer.json()["errors"]] == [path.partition("?")[2].partition("=")[0]]


def lists() -> Iterator[tuple[Any, str, list[str]]]:
    """Each list parameter of each route, with three of its values."""
    for route in sorted(V1):
        wanted = query_of(HANDLERS[route])
        for field in msgspec.structs.fields(wanted):
            if _is_list(field.type):
                values = literals(field.type) or [str(UUID(int=number)) for number in range(3)]
                yield wanted, field.encode_name, [*values, *values, *values][:3]
        if wanted.open_prefix:
            for name in ("a.in", "a.b.in", 'a."b.c".in'):
                yield wanted, f"{wanted.open_prefix}{name}", ["1", "x", "true"]


def literals(kind: Any) -> list[str]:
    """The values of a Literal within ``kind``."""
    if get_origin(kind) is Literal:
        return [*get_args(kind)]
    return [value for part in get_args(kind) for value in literals(part)]


def outcome(query: str, wanted: Any) -> Any:
    """What was read, or the faults: `fields` and `sort` take few names."""
    try:
        return read_query(query.encode(), wanted)
    except BadRequest as error:
        return error.errors


def test_a_list_takes_commas_repetitions_and_both() -> None:
    names = set()
    for wanted, name, (first, second, third) in lists():
        names.add(name)
        forms = [
            f"{name}={first},{second},{third}",
            f"{name}={first}&{name}={second}&{name}={third}",
            f"{name}={first},{second}&{name}={third}",
        ]
        by_commas, *others = [outcome(form, wanted) for form in forms]
        assert others == [by_commas, by_commas], (wanted, name)
    assert {"id.in", "tags", "fields", "sort", "types", "kind", "attributes.a.in"} <= names


async def test_an_attribute_is_compared_with_values_that_are_repeated(alice: httpx.AsyncClient) -> None:
    for wits in (3, 4, 5, "a,b"):
        await create(alice, "/v1/characters", name=f"{wits}", attributes={"wits": wits, "in": wits})
    for query, expected in (
        ("attributes.wits.in=3&attributes.wits.in=4", ["3", "4"]),
        ("attributes.wits.in=3,5&attributes.wits.in=4", ["3", "4", "5"]),
        ('attributes.wits.in="a,b"&attributes.wits.in=3', ["3", "a,b"]),
    ):
        answer = await alice.get(f"/v1/characters?sort=name&{query}")
        assert [row["name"] for row in answer.json()["items"]] == expected, query
    for name in ("attributes.wits", "attributes.wits.gte", "attributes.in"):
        answer = await alice.get(f"/v1/characters?{name}=3&{name}=4")
        assert (answer.status_code, faults(answer)) == (400, {name: "Must be given only once."})
    many = "&".join("attributes.wits.in=" + ",".join("1" * 60) for _ in range(2))
    assert (await alice.get(f"/v1/characters?{many}")).status_code == 400
