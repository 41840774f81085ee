from typing import Annotated, Literal, get_args

import msgspec
from msgspec import Meta

from service.parameters import Query
from service.schemas import END, Time

Size = Literal["64", "256", "512", "1024", "original"]
SIZES: tuple[Size, ...] = get_args(Size)

PICTURE_VERSION_LENGTH = 12  # hexadecimal digits
MAX_UPLOAD = 10 * 1024 * 1024  # bytes of one picture


class Portrait(msgspec.Struct, kw_only=True):
    """A picture: its URL, its size, and a colour to show until it is loaded. The URL changes when the picture does. Add
    `&size=64` to it for a smaller one."""

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


class PictureQuery(Query, kw_only=True, frozen=True):
    """The size and the version of the picture to return."""

    size: Annotated[Size, Meta(description="The size of the square that the picture fits into, or `original`.")] = (
        "original"
    )
    v: (
        Annotated[
            str,
            Meta(
                pattern=rf"^[0-9a-f]{{{PICTURE_VERSION_LENGTH}}}" + END,
                extra={"fault": f"Must be {PICTURE_VERSION_LENGTH} hexadecimal digits."},
                description="The version of the picture, as in its `url`. Caches may keep a public picture only if this"
                " is its current version. The response is the current picture in any case.",
            ),
        ]
        | None
    ) = None
