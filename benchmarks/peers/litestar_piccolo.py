"""Litestar with Piccolo, as their documentation teaches: selects and objects, msgspec Structs, dependencies."""

import base64
import binascii
import hashlib
import os
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from jsonschema import Draft202012Validator
from litestar import Litestar, Response, get, patch, post
from litestar.di import NamedDependency, Provide
from litestar.exceptions import HTTPException
from litestar.params import FromPath, FromQuery, HeaderParameter, JSONBody
from msgspec import UNSET, Meta, UnsetType
from piccolo.columns import JSON, JSONB, UUID, Array, Bytea, ForeignKey, Integer, Text, Timestamptz, Varchar
from piccolo.columns.combination import WhereRaw
from piccolo.engine.postgres import PostgresEngine
from piccolo.table import Table

DB = PostgresEngine(config={"dsn": os.environ["DATABASE_URL"]}, extensions=())


class User(Table, db=DB, tablename="users"):
    id = UUID(primary_key=True)
    username = Varchar()
    status = Varchar()


class Token(Table, db=DB, tablename="tokens"):
    id = UUID(primary_key=True)
    user = ForeignKey(User)
    digest = Bytea()
    expires_at = Timestamptz(null=True)


class Template(Table, db=DB, tablename="templates"):
    id = UUID(primary_key=True)
    visibility = Varchar()
    newest_version = Integer()
    retired_at = Timestamptz(null=True)


class TemplateVersion(Table, db=DB, tablename="template_versions"):
    id = UUID(primary_key=True)
    template = ForeignKey(Template)
    number = Integer()
    attribute_schema = JSON()


class Character(Table, db=DB, tablename="characters"):
    id = UUID(primary_key=True)
    owner = ForeignKey(User)
    name = Varchar()
    description = Text()
    prompt = Text(null=True, default=None)
    style = Varchar(null=True, default=None)
    tags = Array(base_column=Varchar())
    visibility = Varchar(default="private")
    attributes = JSONB()
    extensions = JSONB()
    template = ForeignKey(Template)
    template_version = Integer(null=True)
    forked_from = UUID(null=True, default=None)
    deleted_at = Timestamptz(null=True, default=None)
    version = Integer(default=1)
    created_at = Timestamptz()
    updated_at = Timestamptz()


class Owner(msgspec.Struct):
    id: uuid.UUID
    username: str


class Pin(msgspec.Struct):
    id: uuid.UUID
    version: int


class Summary(msgspec.Struct, kw_only=True):
    id: uuid.UUID
    version: int
    name: str
    style: str | None
    tags: list[str]
    visibility: str
    owner: Owner
    template: Pin | None
    portrait: None = None
    created_at: datetime
    updated_at: datetime


class Read(Summary, kw_only=True):
    description: str
    prompt: str | None
    attributes: dict[str, Any]
    extensions: dict[str, Any]
    forked_from: uuid.UUID | None


class Page(msgspec.Struct):
    items: list[Summary]
    next_cursor: str | None


class Create(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    name: Annotated[str, Meta(min_length=1, max_length=120)]
    description: Annotated[str, Meta(max_length=10_000)] = ""
    style: str | None = None
    tags: Annotated[list[str], Meta(max_length=20)] = msgspec.field(default_factory=list)
    visibility: str = "private"
    attributes: dict[str, Any] = msgspec.field(default_factory=dict)
    template: uuid.UUID


class Update(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    name: Annotated[str, Meta(min_length=1, max_length=120)] | UnsetType = UNSET
    description: Annotated[str, Meta(max_length=10_000)] | UnsetType = UNSET


_SUMMARY = (
    Character.id, Character.version, Character.name, Character.style, Character.tags, Character.visibility,
    Character.owner.id.as_alias("owner_id"), Character.owner.username.as_alias("username"),
    Character.template, Character.template_version, Character.created_at, Character.updated_at,
)  # fmt: skip
_WHOLE = (
    *_SUMMARY,
    Character.description, Character.prompt, Character.attributes, Character.extensions, Character.forked_from,
)  # fmt: skip


async def get_user(authorization: Annotated[str, HeaderParameter(name="Authorization")] = "") -> User:
    digest = hashlib.sha256(authorization.removeprefix("Bearer ").encode()).digest()
    token = await Token.objects(Token.user).get(Token.digest == digest)
    if (
        token is None
        or token.user.status != "active"
        or (token.expires_at is not None and token.expires_at < datetime.now(UTC))
    ):
        raise HTTPException(status_code=401)
    user: User = token.user
    return user


@get("/v1/characters/{character_id:uuid}")
async def get_character(character_id: FromPath[uuid.UUID]) -> Response[Read]:
    row = (
        await Character.select(*_WHOLE)
        .where(Character.id == character_id, Character.deleted_at.is_null(), Character.visibility != "private")
        .first()
        .output(load_json=True)
    )
    if row is None:
        raise HTTPException(status_code=404)
    return whole(row)


@get("/v1/characters")
async def list_characters(
    limit: FromQuery[int] = 20,
    cursor: FromQuery[str | None] = None,
    style: FromQuery[str | None] = None,
    tags: FromQuery[str | None] = None,
    q: FromQuery[str | None] = None,
    sort: FromQuery[str] = "-created_at",
) -> Page:
    if sort != "-created_at" or not 1 <= limit <= 100:
        raise HTTPException(status_code=400)
    query = (
        Character.select(*_SUMMARY)
        .where(Character.deleted_at.is_null(), Character.visibility == "public")
        .order_by(Character.created_at, Character.id, ascending=False)
        .limit(limit + 1)
    )
    if cursor is not None:
        query = query.where(WhereRaw("({}, {}) < ({}, {})", Character.created_at, Character.id, *decode_cursor(cursor)))
    if style is not None:
        query = query.where(Character.style == style)
    if tags is not None:
        query = query.where(WhereRaw('"characters"."tag_keys" @> {}::text[]', tags.split(",")))
    if q is not None:
        query = query.where(WhereRaw('"characters"."search" @@ websearch_to_tsquery(\'simple\', plain({}))', q))
    rows = await query
    shown = rows[:limit]
    next_cursor = encode_cursor(shown[-1]) if len(rows) > limit else None
    return Page([msgspec.convert(nested(row), Summary) for row in shown], next_cursor)


@post("/v1/characters")
async def create_character(user: NamedDependency[User], data: JSONBody[Create]) -> Response[Read]:
    version = (
        await TemplateVersion.select(TemplateVersion.template, TemplateVersion.number, TemplateVersion.attribute_schema)
        .where(
            TemplateVersion.template.id == data.template,
            TemplateVersion.number == TemplateVersion.template.newest_version,
            TemplateVersion.template.visibility == "public",
            TemplateVersion.template.retired_at.is_null(),
        )
        .first()
        .output(load_json=True)
    )
    if version is None:
        raise HTTPException(status_code=404)
    if errors := list(Draft202012Validator(version["attribute_schema"]).iter_errors(data.attributes)):
        raise HTTPException(status_code=422, extra=[error.message for error in errors])
    now = datetime.now(UTC)
    character = Character(
        id=uuid7(),
        owner=user.id,
        name=data.name,
        description=data.description,
        style=data.style,
        tags=data.tags,
        visibility=data.visibility,
        attributes=data.attributes,
        extensions={},
        template=data.template,
        template_version=version["number"],
        created_at=now,
        updated_at=now,
    )
    await character.save()
    return await answer(character.id)


@patch("/v1/characters/{character_id:uuid}")
async def update_character(
    user: NamedDependency[User],
    character_id: FromPath[uuid.UUID],
    data: JSONBody[Update],
    if_match: Annotated[str | None, HeaderParameter(name="If-Match")] = None,
) -> Response[Read]:
    async with DB.transaction():
        character = (
            await Character.objects()
            .where(Character.id == character_id, Character.owner == user.id, Character.deleted_at.is_null())
            .lock_rows("UPDATE")
            .first()
        )
        if character is None:
            raise HTTPException(status_code=404)
        if if_match not in (None, f'"{character.id}-{character.version}"'):
            raise HTTPException(status_code=412)
        changes = {name: value for name, value in msgspec.structs.asdict(data).items() if value is not UNSET}
        for name, value in changes.items():
            setattr(character, name, value)
        character.version += 1
        character.updated_at = datetime.now(UTC)
        await character.save([*(getattr(Character, name) for name in changes), Character.version, Character.updated_at])
    return await answer(character_id)


async def answer(character_id: uuid.UUID) -> Response[Read]:
    row = await Character.select(*_WHOLE).where(Character.id == character_id).first().output(load_json=True)
    return whole(row)


def whole(row: dict[str, Any]) -> Response[Read]:
    headers = {"ETag": f'"{row["id"]}-{row["version"]}"', "Location": f"/v1/characters/{row['id']}"}
    return Response(msgspec.convert(nested(row), Read), headers=headers)


def nested(row: dict[str, Any]) -> dict[str, Any]:
    template = row["template"]
    return row | {
        "owner": {"id": row["owner_id"], "username": row["username"]},
        "template": None if template is None else {"id": template, "version": row["template_version"]},
    }


def encode_cursor(last: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(f"{last['created_at'].isoformat()}|{last['id']}".encode()).decode()


def decode_cursor(cursor: str) -> tuple[datetime, uuid.UUID]:
    try:
        created_at, _, character_id = base64.urlsafe_b64decode(cursor).decode().partition("|")
        return datetime.fromisoformat(created_at), uuid.UUID(character_id)
    except (binascii.Error, ValueError) as error:
        raise HTTPException(status_code=400) from error


def uuid7() -> uuid.UUID:
    random = int.from_bytes(os.urandom(10), "big") & ~(0xF << 76) & ~(0b11 << 62) & (1 << 80) - 1
    return uuid.UUID(int=time.time_ns() // 1_000_000 << 80 | random | 0x7 << 76 | 0b10 << 62)


@asynccontextmanager
async def pool(_: Litestar) -> AsyncIterator[None]:
    await DB.start_connection_pool(max_size=10)
    yield
    await DB.close_connection_pool()


app = Litestar(
    [get_character, list_characters, create_character, update_character],
    dependencies={"user": Provide(get_user)},
    lifespan=[pool],
)
