"""The wire vocabulary that features share: bounded aliases, and what every input and page looks like."""

from datetime import datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

import msgspec
from litestar.params import HeaderParameter, QueryParameter
from msgspec import Meta

# Ends a pattern: a bare $ is content, in Python, with a newline behind it.
END = r"$(?!\n)"

# No control characters (C0, C1, line and paragraph separators) and none that turn the direction of a line.
UNPRINTABLE = "[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]"
PLAIN = f"^[^{UNPRINTABLE[1:-1]}]*" + END
PLAIN_FAULT = {"fault": "Must not contain control characters."}  # what bodies.py says instead of the pattern

NAME_LENGTH = 120
DESCRIPTION_LENGTH = 10_000
PROMPT_LENGTH = 4_000
TAG_LENGTH = 50
MOST_TAGS = 20
EXTENSIONS_SIZE = 256 * 1024  # bytes of JSON

Name = Annotated[
    str, Meta(min_length=1, max_length=NAME_LENGTH, pattern=PLAIN, extra=PLAIN_FAULT, examples=["Mira Halloran"])
]
Description = Annotated[str, Meta(max_length=DESCRIPTION_LENGTH)]
Prompt = Annotated[str, Meta(max_length=PROMPT_LENGTH)]
Tag = Annotated[str, Meta(min_length=1, max_length=TAG_LENGTH, pattern=PLAIN, extra=PLAIN_FAULT)]
Tags = Annotated[list[Tag], Meta(max_length=MOST_TAGS, examples=[["detective", "night"]])]
Style = Literal["realistic", "cartoon", "anime", "fantasy", "cyberpunk", "vintage", "minimalist"]
Visibility = Literal["private", "unlisted", "public"]
Time = Annotated[datetime, Meta(tz=True)]

Limit = Annotated[int, QueryParameter(name="limit", ge=1, le=100, description="How many items at most.")]
CursorText = Annotated[
    str | None,
    QueryParameter(name="cursor", max_length=1000, description="Where to go on: `next_cursor` of the page before."),
]
IfMatch = Annotated[
    str | None,
    HeaderParameter(
        name="If-Match",
        description="The ETag that was read: a change made since then answers 412.",
        schema_extra={"pattern": r'^(\*|(W/)?"[!#-+.-~-]*"( *, *(W/)?"[!#-+.-~-]*")*)$'},
    ),
]

Item = TypeVar("Item")


class Input(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A body that a client sends."""


class Page(msgspec.Struct, Generic[Item], kw_only=True):
    """A page of a list; ``next_cursor`` is null on the last one."""

    items: list[Item]
    next_cursor: str | None = None
    total: int | msgspec.UnsetType = msgspec.UNSET


class Collection(msgspec.Struct, Generic[Item], kw_only=True):
    """A list short enough to be given whole."""

    items: list[Item]


def constrained(column: str, choices: Any) -> str:
    """The SQL condition that ``column`` is one of a Literal's choices."""
    return f"{column} IN ({', '.join(repr(choice) for choice in choices.__args__)})"


def given(data: Input, **empty: Any) -> dict[str, Any]:
    """The fields that a PATCH brings; null becomes the ``empty`` value of its field, if there is one."""
    fields = {name: getattr(data, name) for name in data.__struct_fields__}
    return {
        name: empty.get(name) if value is None else value
        for name, value in fields.items()
        if value is not msgspec.UNSET
    }
