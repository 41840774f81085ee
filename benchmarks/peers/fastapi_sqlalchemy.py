"""FastAPI with SQLAlchemy's asynchronous ORM, as their documentation teaches: sessions from a dependency, models from
attributes, a joined load for what is shown with a row."""

import base64
import binascii
import hashlib
import os
import time
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, HTTPException, Query, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from jsonschema import Draft202012Validator
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import ForeignKey, String, Text, func, literal_column, select, tuple_
from sqlalchemy.dialects.postgresql import ARRAY, JSON, JSONB
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, joinedload, mapped_column, relationship
from sqlalchemy.types import DateTime

engine = create_async_engine(os.environ["DATABASE_URL"].replace("postgresql:", "postgresql+asyncpg:"), pool_size=10)
new_session = async_sessionmaker(engine, expire_on_commit=False)


class Base(DeclarativeBase):
    type_annotation_map = {  # noqa: RUF012 (as SQLAlchemy's documentation writes it)
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB,
        list[str]: ARRAY(String),
    }


class User(Base):
    __tablename__ = "users"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    username: Mapped[str]
    status: Mapped[str]


class Token(Base):
    __tablename__ = "tokens"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    user_id: Mapped[uuid.UUID] = mapped_column("user", ForeignKey("users.id"))
    digest: Mapped[bytes]
    expires_at: Mapped[datetime | None]
    user: Mapped[User] = relationship()


class Template(Base):
    __tablename__ = "templates"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    visibility: Mapped[str]
    newest_version: Mapped[int]
    retired_at: Mapped[datetime | None]


class TemplateVersion(Base):
    __tablename__ = "template_versions"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    template: Mapped[uuid.UUID] = mapped_column(ForeignKey("templates.id"))
    number: Mapped[int]
    attribute_schema: Mapped[Any] = mapped_column(JSON)


class Character(Base):
    __tablename__ = "characters"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    owner_id: Mapped[uuid.UUID] = mapped_column("owner", ForeignKey("users.id"))
    name: Mapped[str]
    description: Mapped[str]
    prompt: Mapped[str | None]
    style: Mapped[str | None]
    tags: Mapped[list[str]]
    visibility: Mapped[str]
    attributes: Mapped[dict[str, Any]]
    extensions: Mapped[dict[str, Any]]
    template_id: Mapped[uuid.UUID | None] = mapped_column("template", ForeignKey("templates.id"))
    template_version: Mapped[int | None]
    forked_from: Mapped[uuid.UUID | None]
    deleted_at: Mapped[datetime | None]
    version: Mapped[int]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    owner: Mapped[User] = relationship()

    @property
    def template(self) -> dict[str, Any] | None:
        return {"id": self.template_id, "version": self.template_version} if self.template_id else None


class Owner(BaseModel):
    model_config = ConfigDict(from_attributes=True)
    id: uuid.UUID
    username: str


class Pin(BaseModel):
    id: uuid.UUID
    version: int


class Summary(BaseModel):
    model_config = ConfigDict(from_attributes=True)
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


class Read(Summary):
    description: str
    prompt: str | None
    attributes: dict[str, Any]
    extensions: dict[str, Any]
    forked_from: uuid.UUID | None


class Page(BaseModel):
    items: list[Summary]
    next_cursor: str | None


class Create(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str = Field(min_length=1, max_length=120)
    description: str = Field("", max_length=10_000)
    style: str | None = None
    tags: list[str] = Field(default=[], max_length=20)
    visibility: str = "private"
    attributes: dict[str, Any] = {}
    template: uuid.UUID


class Update(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str = Field("", min_length=1, max_length=120)
    description: str = Field("", max_length=10_000)


async def get_session() -> AsyncIterator[AsyncSession]:
    async with new_session() as session:
        yield session


Session = Annotated[AsyncSession, Depends(get_session)]


async def get_user(session: Session, given: Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())]) -> User:
    digest = hashlib.sha256(given.credentials.encode()).digest()
    token = await session.scalar(select(Token).options(joinedload(Token.user)).where(Token.digest == digest))
    if token is None or token.user.status != "active" or (token.expires_at and token.expires_at < datetime.now(UTC)):
        raise HTTPException(401)
    return token.user


CurrentUser = Annotated[User, Depends(get_user)]
app = FastAPI()


@app.get("/v1/characters/{character_id}")
async def get_character(character_id: uuid.UUID, session: Session, response: Response) -> Read:
    query = select(Character).options(joinedload(Character.owner)).where(Character.id == character_id)
    character = await session.scalar(query.where(Character.deleted_at.is_(None), Character.visibility != "private"))
    if character is None:
        raise HTTPException(404)
    response.headers["ETag"] = f'"{character.id}-{character.version}"'
    return Read.model_validate(character)


@app.get("/v1/characters")
async def list_characters(
    session: Session,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: str | None = None,
    style: str | None = None,
    tags: str | None = None,
    q: str | None = None,
    sort: str = "-created_at",
) -> Page:
    if sort != "-created_at":
        raise HTTPException(400)
    query = (
        select(Character)
        .options(joinedload(Character.owner))
        .where(Character.deleted_at.is_(None), Character.visibility == "public")
        .order_by(Character.created_at.desc(), Character.id.desc())
        .limit(limit + 1)
    )
    if cursor is not None:
        query = query.where(tuple_(Character.created_at, Character.id) < tuple_(*decode_cursor(cursor)))
    if style is not None:
        query = query.where(Character.style == style)
    if tags is not None:
        query = query.where(literal_column("characters.tag_keys", ARRAY(Text)).contains(tags.split(",")))
    if q is not None:
        words = func.websearch_to_tsquery("simple", func.plain(q))
        query = query.where(literal_column("characters.search").op("@@")(words))
    found = (await session.scalars(query)).all()
    shown = found[:limit]
    next_cursor = encode_cursor(shown[-1]) if len(found) > limit else None
    return Page(items=[Summary.model_validate(character) for character in shown], next_cursor=next_cursor)


@app.post("/v1/characters", status_code=201)
async def create_character(data: Create, session: Session, user: CurrentUser, response: Response) -> Read:
    version = await session.scalar(
        select(TemplateVersion)
        .join(Template, Template.id == TemplateVersion.template)
        .where(
            Template.id == data.template,
            TemplateVersion.number == Template.newest_version,
            Template.visibility == "public",
            Template.retired_at.is_(None),
        )
    )
    if version is None:
        raise HTTPException(404)
    if errors := list(Draft202012Validator(version.attribute_schema).iter_errors(data.attributes)):
        raise HTTPException(422, [error.message for error in errors])
    now = datetime.now(UTC)
    character = Character(
        **data.model_dump(exclude={"template"}),
        id=uuid7(),
        owner=user,
        template_id=version.template,
        template_version=version.number,
        extensions={},
        version=1,
        created_at=now,
        updated_at=now,
    )
    session.add(character)
    await session.commit()
    response.headers["Location"] = f"/v1/characters/{character.id}"
    response.headers["ETag"] = f'"{character.id}-1"'
    return Read.model_validate(character)


@app.patch("/v1/characters/{character_id}")
async def update_character(
    character_id: uuid.UUID,
    data: Update,
    session: Session,
    user: CurrentUser,
    response: Response,
    if_match: Annotated[str | None, Header()] = None,
) -> Read:
    character = await session.scalar(
        select(Character)
        .where(Character.id == character_id, Character.owner_id == user.id, Character.deleted_at.is_(None))
        .options(joinedload(Character.owner, innerjoin=True))
        .with_for_update(of=Character)
    )
    if character is None:
        raise HTTPException(404)
    if if_match not in (None, f'"{character.id}-{character.version}"'):
        raise HTTPException(412)
    for name, value in data.model_dump(exclude_unset=True).items():
        setattr(character, name, value)
    character.version += 1
    character.updated_at = datetime.now(UTC)
    await session.commit()
    response.headers["ETag"] = f'"{character.id}-{character.version}"'
    return Read.model_validate(character)


def encode_cursor(last: Character) -> str:
    return base64.urlsafe_b64encode(f"{last.created_at.isoformat()}|{last.id}".encode()).decode()


def decode_cursor(cursor: str) -> tuple[datetime, uuid.UUID]:
    try:
        created_at, _, character_id = base64.urlsafe_b64decode(cursor).decode().partition("|")
        return datetime.fromisoformat(created_at), uuid.UUID(character_id)
    except (binascii.Error, ValueError) as error:
        raise HTTPException(400) from error


def uuid7() -> uuid.UUID:
    random = int.from_bytes(os.urandom(10), "big") & ~(0xF << 76) & ~(0b11 << 62) & (1 << 80) - 1
    return uuid.UUID(int=time.time_ns() // 1_000_000 << 80 | random | 0x7 << 76 | 0b10 << 62)
