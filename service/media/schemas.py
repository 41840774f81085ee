from typing import Annotated, Literal, get_args

import msgspec
from msgspec import Meta

from service.schemas import Query, Time

Size = Literal["64", "256", "512", "1024", "original"]
SIZES: tuple[Size, ...] = get_args(Size)

MAX_UPLOAD = 10 * 1024 * 1024  # bytes of one picture


class Portrait(msgspec.Struct, kw_only=True):
    """A picture: where it is, and what to draw in its place until it is loaded."""

    url: str
    width: int
    height: int
    color: Annotated[str, Meta(pattern="^#[0-9a-f]{6}$", examples=["#7a5c43"])]


class PortraitLinks(msgspec.Struct, kw_only=True):
    """A picture's links by size, for whoever cannot send a token, such as an `<img>`. They end at `expires_at`."""

    width: int
    height: int
    color: str
    links: dict[Size, str]
    expires_at: Time


class SizeQuery(Query, kw_only=True, frozen=True):
    """How large a picture is wanted."""

    size: Annotated[Size, Meta(description="The square it fits into; `original`: as it was uploaded.")] = "original"
