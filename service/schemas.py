"""Wire types that features share: bounded aliases, pages and query parameters."""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import chain, groupby
from typing import Annotated, Any, ClassVar, Generic, Literal, TypeVar
from uuid import UUID

import msgspec
from msgspec import Meta

# Ends a pattern. A bare $ also matches before a final newline in Python.
END = r"$(?!\n)"

# Control characters (C0, C1), line and paragraph separators, and characters that change the text direction.
UNPRINTABLE = "[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]"
PLAIN = f"^[^{UNPRINTABLE[1:-1]}]*" + END
PLAIN_FAULT = {"fault": "Must not contain control characters."}  # the fault that is reported instead of the pattern

# Letters and symbols that show nothing, and the code points that Unicode ignores by default
BLANK = {0x115F, 0x1160, 0x2065, 0x2800, 0x3164, 0xFFA0, *range(0xFFF0, 0xFFF9), 0xFFFC, 0x1D159}
BLANK |= {*range(0xE0000, 0xE1000)}


def _invisible() -> str:
    """For a character class: separators, controls, formats, marks without a letter, blank ones, and private use."""
    kinds = {"Zs", "Zl", "Zp", "Cc", "Cf", "Co", "Mn", "Mc", "Me"}
    planes = chain(range(0x20000), range(0xE0000, 0xE1000))  # the others have none, but see below
    codes = [code for code in planes if code in BLANK or unicodedata.category(chr(code)) in kinds]
    runs = [[code for _, code in run] for _, run in groupby(enumerate(codes), lambda pair: pair[1] - pair[0])]
    planes_0_to_14 = "".join(f"\\U{run[0]:08x}-\\U{run[-1]:08x}" for run in runs)
    return planes_0_to_14 + r"\U000f0000-\U0010ffff"  # all of planes 15 and 16 is for private use


VISIBLE = re.compile(f"[^{_invisible()}]")


def line(max_length: int, *examples: str, may_be_empty: bool = False) -> Meta:
    """A line of text in which something is to be seen."""
    pattern = rf"^(?=[\s\S]*?{VISIBLE.pattern}){PLAIN[1:]}"
    return Meta(
        min_length=None if may_be_empty else 1,
        max_length=max_length,
        pattern=f"{pattern}|^{END}" if may_be_empty else pattern,
        extra={
            "unless": {PLAIN: "Must not contain control characters."},
            "fault": "Must contain at least one visible character.",
        },
        examples=list(examples) or None,
    )


NAME_LENGTH = 256
TITLE_LENGTH = 120
DESCRIPTION_LENGTH = 10_000
LONG_DESCRIPTION_LENGTH = 100_000
PROMPT_LENGTH = 4_000
TAG_LENGTH = 100
MOST_TAGS = 200
MAX_PARAMETERS = 100  # in a query string
CURSOR_LENGTH = 2_000
EXTENSIONS_SIZE = 256 * 1024  # bytes of JSON

Name = Annotated[str, line(NAME_LENGTH, "Mira Halloran")]
Title = Annotated[str, line(TITLE_LENGTH, "Story generator")]
Description = Annotated[str, Meta(max_length=DESCRIPTION_LENGTH)]
LongDescription = Annotated[
    str, Meta(max_length=LONG_DESCRIPTION_LENGTH, description="Searches find the words of the first 16,000 characters.")
]
Prompt = Annotated[str, Meta(max_length=PROMPT_LENGTH)]
Tag = Annotated[str, line(TAG_LENGTH)]
Tags = Annotated[list[Tag], Meta(max_length=MOST_TAGS, examples=[["detective", "night"]])]
Style = Literal["realistic", "cartoon", "anime", "fantasy", "cyberpunk", "vintage", "minimalist"]
Visibility = Literal["private", "unlisted", "public"]
Time = Annotated[datetime, Meta(tz=True)]
VersionNumber = Annotated[int, Meta(ge=1, le=2**31 - 1)]

Item = TypeVar("Item")


class Page(msgspec.Struct, Generic[Item], kw_only=True):
    """A page of a list. `next_cursor` is null on the last page."""

    items: list[Item]
    next_cursor: str | None = None
    total: int | msgspec.UnsetType = msgspec.UNSET


class Collection(msgspec.Struct, Generic[Item], kw_only=True):
    """A complete list, without pages."""

    items: list[Item]


def constrained(column: str, choices: Any) -> str:
    """The SQL condition that ``column`` is one of a Literal's choices."""
    return f"{column} IN ({', '.join(repr(choice) for choice in choices.__args__)})"


def check_members(struct: type[msgspec.Struct], names: Iterable[str], what: str) -> None:
    """Raises TypeError unless ``names`` are the names of all members of ``struct``. ``what`` has these names."""
    check_same(struct, (field.encode_name for field in msgspec.structs.fields(struct)), names, what)


def check_same(struct: type[msgspec.Struct], declared: Iterable[str], names: Iterable[str], what: str) -> None:
    """Raises TypeError unless ``what`` has exactly the names that ``struct`` has declared."""
    if differing := set(declared) ^ set(names):
        raise TypeError(f"{struct.__name__} and {what} differ in: {', '.join(sorted(differing))}.")


Names = tuple[Annotated[str, Meta(min_length=1)], ...]  # written as a,b,c
LimitValue = Annotated[int, Meta(ge=1, le=100, description="The maximum number of items.")]
CursorValue = Annotated[str, Meta(max_length=CURSOR_LENGTH, description="The `next_cursor` of the previous page.")]

_OWNER = "`me` (requires a token), `platform`, or a username. Default: your own and all public ones."
OwnerValue = Annotated[str, Meta(min_length=1, max_length=32, description=_OWNER)]
SearchValue = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=200,
        description="Searches name, description and tags for these words. Tolerates misspelt names. Finds any part of a"
        " text in Chinese, Japanese, Korean, Thai, Lao, Khmer, Burmese or Tibetan.",
    ),
]
AllTags = Annotated[Names, Meta(max_length=20, description="Items with all of these tags: `a,b`.")]
AnyTags = Annotated[Names, Meta(max_length=20, description="Items with any of these tags: `a,b`.")]
NoTags = Annotated[Names, Meta(max_length=20, description="Items with none of these tags: `a,b`.")]
AnyIds = Annotated[tuple[UUID, ...], Meta(max_length=100, description="Items with these ids, up to 100.")]
NameValue = Annotated[
    str, Meta(min_length=1, max_length=NAME_LENGTH, description="Items with this name, without case and accents.")
]
From = Annotated[Time, Meta(description="Not before this time. A day, as in `2026-11-25`, is its beginning in UTC.")]
Before = Annotated[Time, Meta(description="Before this time. A day, as in `2026-11-25`, is its beginning in UTC.")]


class Query(msgspec.Struct, kw_only=True, frozen=True):
    """The query parameters of a route. ``open`` holds those whose names start with ``open_prefix``, as in
    ``attributes.<name>``. Those that also end with ``open_list`` are lists."""

    open_prefix: ClassVar[str] = ""
    open_list: ClassVar[str] = ".in"

    open: dict[str, str] = msgspec.field(default_factory=dict, name="_open")


class FieldsQuery(Query, kw_only=True, frozen=True):
    """The members of a resource to return.

    ``whole`` is the Struct whose members ``fields`` takes, if it is not that of the response. ``expanded`` has the
    Struct of each member that ``expand`` takes.
    """

    whole: ClassVar[Any] = None
    expanded: ClassVar[Mapping[str, Any]] = {}

    fields: Annotated[Names, Meta(description="The fields to return, besides `id`.")] | None = None
    expand: Annotated[Names, Meta(description="Related objects to return in full.")] | None = None


class DryRunQuery(Query, kw_only=True, frozen=True):
    """A write that can be previewed."""

    dry_run: Annotated[
        bool,
        Meta(
            description="Preview the result without saving it. The response is 200, or 204 for a deletion, without"
            " `Location` and `ETag`."
        ),
    ] = False


class PageQuery(Query, kw_only=True, frozen=True):
    """A page of a list that has only one order."""

    limit: LimitValue = 20
    cursor: CursorValue | None = None


class ListQuery(FieldsQuery, kw_only=True, frozen=True):
    """A page of a list: its members, its order and its total. ``sorts`` are its sort keys."""

    sorts: ClassVar[Sequence[str]] = ("created_at",)

    limit: LimitValue = 20
    cursor: CursorValue | None = None
    sort: Annotated[Names, Meta(description="Sort keys; `-` sorts in descending order.")] | None = None
    count: (
        Annotated[
            Literal["exact", "estimated"],
            Meta(description="Adds `total`. `exact` counts up to 10,000; `estimated` estimates larger totals."),
        ]
        | None
    ) = None


class OwnerQuery(ListQuery, kw_only=True, frozen=True):
    """A list of rows that have owners."""

    owner: OwnerValue | None = None
    owner_id: Annotated[UUID, Meta(description="The id of a user, instead of `owner`.")] | None = None


class ContentQuery(OwnerQuery, kw_only=True, frozen=True):
    """A list that is searched, and filtered by id, name, tags and times."""

    sorts: ClassVar[Sequence[str]] = ("created_at", "updated_at", "name", "rank")

    q: SearchValue | None = None
    id_in: AnyIds | None = msgspec.field(name="id.in", default=None)
    name: NameValue | None = None
    tags: AllTags | None = None
    tags_any: AnyTags | None = msgspec.field(name="tags.any", default=None)
    tags_none: NoTags | None = msgspec.field(name="tags.none", default=None)
    created_at_gte: From | None = msgspec.field(name="created_at.gte", default=None)
    created_at_lt: Before | None = msgspec.field(name="created_at.lt", default=None)
    updated_at_gte: From | None = msgspec.field(name="updated_at.gte", default=None)
    updated_at_lt: Before | None = msgspec.field(name="updated_at.lt", default=None)
