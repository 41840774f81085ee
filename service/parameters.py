"""Query parameters that routes share: their types, and the rules that no type can state.

``Query.violations`` finds the faults that depend on allow-lists or on several parameters. service/web/query.py reports
them together with those of the types.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal
from uuid import UUID

import msgspec
from msgspec import Meta

from service.errors import Violation
from service.schemas import NAME_LENGTH, Style, Time, Visibility

MAX_PARAMETERS = 100  # in a query string
CURSOR_LENGTH = 2_000
NO_CURSOR = "Is not a cursor of this list; start again without it."

_CURSORS = ("cursor", "after")  # the parameters that take one
_CURSOR = re.compile(r"[A-Za-z0-9_-]{12}W[A-Za-z0-9_-]+")  # base64 of a signature (9 bytes) and of a list in JSON

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
AnyStyles = Annotated[tuple[Style, ...], Meta(max_length=100, description="Items with any of these styles: `a,b`.")]
AnyVisibilities = Annotated[
    tuple[Visibility, ...], Meta(max_length=100, description="Items with any of these values: `a,b`.")
]
AnyIds = Annotated[tuple[UUID, ...], Meta(max_length=100, description="Items with these ids, up to 100.")]
NameValue = Annotated[
    str, Meta(min_length=1, max_length=NAME_LENGTH, description="Items with this name, without case and accents.")
]
From = Annotated[Time, Meta(description="Not before this time. A day, as in `2026-11-25`, is its beginning in UTC.")]
Before = Annotated[Time, Meta(description="Before this time. A day, as in `2026-11-25`, is its beginning in UTC.")]


Given = Mapping[str, Any]  # the parameters of a request by name; None for one that is not valid by its type


class Query(msgspec.Struct, kw_only=True, frozen=True):
    """The query parameters of a route. ``open`` holds what ``read_open`` made of the parameters whose names start with
    ``open_prefix``, as in ``attributes.<name>``. A parameter whose name also ends with ``.in`` is a list."""

    open_prefix: ClassVar[str] = ""

    open: dict[str, Any] = msgspec.field(default_factory=dict, name="_open")

    @classmethod
    def violations(cls, given: Given) -> Iterator[Violation]:
        """The faults of values that are valid by their types. Whether a cursor is one of this list is known only when
        all other parameters are valid; a text that is no cursor of any list is reported with their faults."""
        for name in _CURSORS:
            if (text := given.get(name)) is not None and not is_cursor(text):
                yield Violation(NO_CURSOR, parameter=name)

    @classmethod
    def read_open(cls, given: Mapping[str, str]) -> tuple[dict[str, Any], list[Violation]]:
        """The parameters with the ``open_prefix``, read, and their faults."""
        raise NotImplementedError


class FieldsQuery(Query, kw_only=True, frozen=True):
    """The members of a resource to return.

    ``whole`` is the Struct whose members ``fields`` takes. ``expanded`` has the Struct of each member that ``expand``
    takes.
    """

    whole: ClassVar[type[msgspec.Struct]]
    expanded: ClassVar[Mapping[str, Any]] = {}

    fields: Annotated[Names, Meta(description="The fields to return, besides `id`.")] | None = None
    expand: Annotated[Names, Meta(description="Related objects to return in full.")] | None = None

    @classmethod
    def violations(cls, given: Given) -> Iterator[Violation]:
        yield from super().violations(given)
        yield from _unknown(given, "fields", cls.whole.__struct_fields__)
        yield from _unknown(given, "expand", tuple(cls.expanded))


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

    @classmethod
    def violations(cls, given: Given) -> Iterator[Violation]:
        yield from super().violations(given)
        names = [name.removeprefix("-") for name in given.get("sort") or ()]
        if not set(names) <= set(cls.sorts) or len(set(names)) < len(names):
            fault = f"Must be one or more of {', '.join(cls.sorts)}, each once. A leading - means descending."
            yield Violation(fault, parameter="sort")


class OwnerQuery(ListQuery, kw_only=True, frozen=True):
    """A list of rows that have owners."""

    owner: OwnerValue | None = None
    owner_id: Annotated[UUID, Meta(description="The id of a user, instead of `owner`.")] | None = None

    @classmethod
    def violations(cls, given: Given) -> Iterator[Violation]:
        yield from super().violations(given)
        if {"owner", "owner_id"} <= given.keys():
            yield Violation("Must not be given with owner.", parameter="owner_id")


class ContentQuery(OwnerQuery, kw_only=True, frozen=True):
    """A list that is searched, and filtered by id, name, tags, times, style and visibility."""

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
    style: Style | None = None
    style_in: AnyStyles | None = msgspec.field(name="style.in", default=None)
    visibility: Visibility | None = None
    visibility_in: AnyVisibilities | None = msgspec.field(name="visibility.in", default=None)

    @classmethod
    def violations(cls, given: Given) -> Iterator[Violation]:
        yield from super().violations(given)
        if "q" not in given and {"rank", "-rank"} & {*(given.get("sort") or ())}:
            yield Violation("Only a search with q has ranks.", parameter="sort")


def is_cursor(text: str) -> bool:
    """Whether ``text`` may be a cursor of some list."""
    return _CURSOR.fullmatch(text) is not None


def _unknown(given: Given, parameter: str, known: Sequence[str]) -> Iterator[Violation]:
    if unknown := [name for name in given.get(parameter) or () if name not in known]:
        names = f"Unknown: {', '.join(unknown)[:200]}. There are: {', '.join(known)}."
        yield Violation(names if known else "Is not supported by this list.", parameter=parameter)
