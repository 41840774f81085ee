from typing import Annotated, Literal, get_args

import msgspec
from msgspec import Meta

from service.schemas import Query, Time

Size = Literal["64", "256", "512", "1024", "original"]
SIZES: tuple[Size, ...] = get_args(Size)

MAX_UPLOAD = 10 * 1024 * 1024  # bytes of one picture


class Portrait(msgspec.Struct, kw_only=True):
    """A picture: its URL, its size, and a colour to show until it is loaded."""

    url: str
    width: int
    height: int
    color: Annotated[str, Meta(pattern="^#[0-9a-f]{6}$", examples=["#7a5c43"])]


class PortraitLinks(msgspec.Struct, kw_only=True):
    """Links to a picture by size. They need no token, so an `<img>` can use them. They expire at `expires_at`."""

    width: int
    height: int
    color: str
    links: dict[Size, str]
    expires_at: Time


class SizeQuery(Query, kw_only=True, frozen=True):
    """The size of the picture to return."""

    size: Annotated[Size, Meta(description="The size of the square that the picture fits into, or `original`.")] = (
        "original"
    )
