"""No framework: an ASGI application and asyncpg, with JSON that PostgreSQL renders. What Python can do here at most."""

import base64
import hashlib
import os
import time
import uuid
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl

import asyncpg
import jsonschema_rs
import msgspec

SUMMARY = """
    c.id, c.version, c.name, c.style, c.tags, c.visibility,
    json_build_object('id', o.id, 'username', o.username) AS owner,
    CASE WHEN c.template IS NOT NULL THEN json_build_object('id', c.template, 'version', c.template_version) END
        AS template,
    NULL::json AS portrait,
    to_char(c.created_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS created_at,
    to_char(c.updated_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS updated_at
"""
WHOLE = SUMMARY + ", c.description, c.prompt, c.attributes, c.extensions, c.forked_from"
ONE = (
    f"SELECT c.version, (SELECT to_json(item) FROM (SELECT {WHOLE}) item)::text"
    " FROM {} c JOIN users o ON o.id = c.owner"
)
GET = ONE.format("characters") + " WHERE c.id = $1 AND c.deleted_at IS NULL AND c.visibility <> 'private'"
CALLER = """
    SELECT u.id FROM tokens t JOIN users u ON u.id = t.user
    WHERE t.digest = $1 AND u.status = 'active' AND (t.expires_at IS NULL OR t.expires_at > now())
"""
VERSION = """
    SELECT v.number, v.attribute_schema FROM template_versions v
    JOIN templates t ON t.id = v.template AND t.newest_version = v.number
    WHERE t.id = $1 AND t.visibility = 'public' AND t.retired_at IS NULL
"""
CREATE = """
    WITH made AS (
        INSERT INTO characters (
            id, owner, name, description, style, tags, visibility, attributes, template, template_version,
            created_at, updated_at
        ) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, now(), now()) RETURNING *
    ) """ + ONE.format("made")
UPDATE = """
    WITH changed AS (
        UPDATE characters SET name = coalesce($4, name), description = coalesce($5, description),
            version = version + 1, updated_at = now()
        WHERE id = $1 AND owner = $2 AND deleted_at IS NULL AND ($3::int IS NULL OR version = $3) RETURNING *
    ) """ + ONE.format("changed")

pool: asyncpg.Pool
validators: dict[tuple[uuid.UUID, int], jsonschema_rs.Validator] = {}


class Connection(asyncpg.Connection):
    def get_reset_query(self) -> str:
        return ""


class Create(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    name: str
    description: str = ""
    style: str | None = None
    tags: list[str] = msgspec.field(default_factory=list)
    visibility: str = "private"
    attributes: dict[str, Any] = msgspec.field(default_factory=dict)
    template: uuid.UUID


class Update(msgspec.Struct, forbid_unknown_fields=True):
    name: str | None = None
    description: str | None = None


class Failure(Exception):
    def __init__(self, status: int) -> None:
        self.status = status


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        return await live(receive, send)
    try:
        status, headers, body = await answer(scope, receive)
    except Failure as failure:
        status, headers, body = failure.status, [], "{}"
    content = body.encode()
    headers += [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
    return None


async def live(receive: Any, send: Any) -> None:
    global pool
    await receive()
    pool = await asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=2, max_size=10, connection_class=Connection)
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await pool.close()
    await send({"type": "lifespan.shutdown.complete"})


async def answer(scope: Any, receive: Any) -> tuple[int, list[tuple[bytes, bytes]], str]:
    headers = dict(scope["headers"])
    _, _, collection, *rest = scope["path"].split("/")
    method = scope["method"]
    if collection != "characters":
        raise Failure(404)
    if method == "GET" and rest:
        return await get(uuid.UUID(rest[0]), headers)
    if method == "GET":
        return await page(dict(parse_qsl(scope["query_string"].decode())))
    user = await caller(headers)
    if method == "POST":
        return await create(user, msgspec.json.decode(await read(receive), type=Create))
    return await update(user, uuid.UUID(rest[0]), headers, msgspec.json.decode(await read(receive), type=Update))


async def get(character_id: uuid.UUID, headers: dict[bytes, bytes]) -> tuple[int, list[tuple[bytes, bytes]], str]:
    row = await pool.fetchrow(GET, character_id)
    if row is None:
        raise Failure(404)
    etag = f'"{character_id}-{row[0]}"'.encode()
    return (304, [(b"etag", etag)], "") if headers.get(b"if-none-match") == etag else (200, [(b"etag", etag)], row[1])


async def page(query: dict[str, str]) -> tuple[int, list[tuple[bytes, bytes]], str]:
    limit = int(query.get("limit", 20))
    conditions, values = ["c.deleted_at IS NULL", "c.visibility = 'public'"], [limit + 1]

    def on(condition: str, *given: Any) -> None:
        conditions.append(condition.format(*range(len(values) + 1, len(values) + 1 + len(given))))
        values.extend(given)

    if "cursor" in query:
        created_at, _, last = base64.urlsafe_b64decode(query["cursor"]).decode().partition("|")
        on("(c.created_at, c.id) < (${}, ${})", datetime.fromisoformat(created_at), uuid.UUID(last))
    if "style" in query:
        on("c.style = ${}", query["style"])
    if "tags" in query:
        on("c.tag_keys @> ${}::text[]", query["tags"].split(","))
    if "q" in query:
        on("c.search @@ websearch_to_tsquery('simple', plain(${}))", query["q"])
    rows = await pool.fetch(
        f"SELECT c.id, c.created_at, (SELECT to_json(item) FROM (SELECT {SUMMARY}) item)::text"
        f" FROM characters c JOIN users o ON o.id = c.owner WHERE {' AND '.join(conditions)}"
        " ORDER BY c.created_at DESC, c.id DESC LIMIT $1",
        *values,
    )
    shown = rows[:limit]
    cursor = "null"
    if len(rows) > limit:
        last_row = f"{shown[-1]['created_at'].isoformat()}|{shown[-1]['id']}"
        cursor = f'"{base64.urlsafe_b64encode(last_row.encode()).decode()}"'
    return 200, [], f'{{"items":[{",".join([row[2] for row in shown])}],"next_cursor":{cursor}}}'


async def create(user: uuid.UUID, data: Create) -> tuple[int, list[tuple[bytes, bytes]], str]:
    version = await pool.fetchrow(VERSION, data.template)
    if version is None:
        raise Failure(404)
    key = (data.template, version["number"])
    if key not in validators:
        validators[key] = jsonschema_rs.Draft202012Validator(msgspec.json.decode(version["attribute_schema"]))
    if not validators[key].is_valid(data.attributes):
        raise Failure(422)
    row = await pool.fetchrow(
        CREATE, made := uuid7(), user, data.name, data.description, data.style, data.tags, data.visibility,
        msgspec.json.encode(data.attributes).decode(), data.template, version["number"],
    )  # fmt: skip
    return 201, [(b"etag", f'"{made}-1"'.encode()), (b"location", f"/v1/characters/{made}".encode())], row[1]


async def update(
    user: uuid.UUID, character_id: uuid.UUID, headers: dict[bytes, bytes], data: Update
) -> tuple[int, list[tuple[bytes, bytes]], str]:
    match = headers.get(b"if-match")
    version = int(match.strip(b'"').rpartition(b"-")[2]) if match else None
    row = await pool.fetchrow(UPDATE, character_id, user, version, data.name, data.description)
    if row is None:
        raise Failure(412 if version else 404)
    return 200, [(b"etag", f'"{character_id}-{row[0]}"'.encode())], row[1]


async def caller(headers: dict[bytes, bytes]) -> uuid.UUID:
    token = headers.get(b"authorization", b"").removeprefix(b"Bearer ")
    user: uuid.UUID | None = await pool.fetchval(CALLER, hashlib.sha256(token).digest())
    if user is None:
        raise Failure(401)
    return user


async def read(receive: Any) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


def uuid7() -> uuid.UUID:
    random = int.from_bytes(os.urandom(10), "big") & ~(0xF << 76) & ~(0b11 << 62) & (1 << 80) - 1
    return uuid.UUID(int=time.time_ns() // 1_000_000 << 80 | random | 0x7 << 76 | 0b10 << 62)
