"""A list that does not wire what its Structs declare cannot be imported."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar
from uuid import UUID

import msgspec
import pytest

from service.lists.listing import Listing
from service.lists.statements import Filter
from service.parameters import ListQuery, OwnerQuery
from service.templates.tables import Template


class Item(msgspec.Struct):
    id: UUID
    name: str


class Whole(Item):
    style: str | None


class Query(ListQuery, kw_only=True, frozen=True):
    whole: ClassVar[Any] = Whole

    style: str | None = None
    name_like: str | None = msgspec.field(name="name.like", default=None)


class OwnedQuery(OwnerQuery, kw_only=True, frozen=True):
    whole: ClassVar[Any] = Whole

    style: str | None = None


class OpenQuery(ListQuery, kw_only=True, frozen=True):
    open_prefix: ClassVar[str] = "attributes."
    whole: ClassVar[Any] = Whole


class SummaryQuery(Query, kw_only=True, frozen=True):
    whole: ClassVar[Any] = Item


class ExpandingQuery(Query, kw_only=True, frozen=True):
    expanded: ClassVar[Mapping[str, Any]] = {"owner": Item}


class SortingQuery(Query, kw_only=True, frozen=True):
    sorts: ClassVar[Sequence[str]] = ("created_at", "name")


STYLE = Filter(Template.style == "anime")
NAME = Filter(Template.name == "Mira")
SUMMARY = {"id": Template.id, "name": Template.name}
WHOLE = SUMMARY | {"style": Template.style}
FILTERS = {"style": STYLE, "name.like": NAME}


def listing(**changes: Any) -> Listing:
    complete = {"query": Query, "item": Item, "summary": SUMMARY, "fields": WHOLE, "filters": FILTERS}
    return Listing(Template, scopes={}, **complete | changes)


def test_a_complete_list_reads_its_filters_from_its_query() -> None:
    filters = listing().filters
    assert filters.given(Query()) == {}
    assert filters.given(Query(style="anime", name_like="M")) == {
        "style": {"style": "anime"},
        "name.like": {"name_like": "M"},
    }
    assert filters["name.like"] is NAME


def test_a_filter_may_have_a_condition_for_each_value() -> None:
    filters = listing(filters={"style": {"anime": STYLE}, "name.like": NAME}).filters
    assert filters.given(Query(style="anime")) == {"style=anime": {}}
    assert filters["style=anime"] is STYLE


def test_open_parameters_have_their_own_filters() -> None:
    filters = listing(query=OpenQuery, filters={}, open_filter=lambda name: NAME).filters
    assert filters.given(OpenQuery(open={"attributes.level": {}})) == {"attributes.level": {}}
    assert filters["attributes.level"] is NAME


@pytest.mark.parametrize(
    ("forgotten", "message"),
    [
        ({"filters": {"style": STYLE}}, "Query and the filters of its list differ in: name.like."),
        ({"filters": FILTERS | {"mood": NAME}}, "Query and the filters of its list differ in: mood."),
        ({"filters": FILTERS, "query": OwnedQuery}, "OwnedQuery and the filters of its list differ in: name.like."),
        ({"filters": None}, "Query and the filters of its list differ in: name.like, style."),
        ({"filters": {}, "query": OpenQuery}, "OpenQuery and the filters of its list differ in: open parameters."),
        ({"open_filter": lambda name: NAME}, "Query and the filters of its list differ in: open parameters."),
        ({"summary": {"id": Template.id}}, "Item and what its list renders differ in: name."),
        ({"summary": WHOLE}, "Item and what its list renders differ in: style."),
        ({"fields": SUMMARY}, "Whole and what its list can render differ in: style."),
        ({"fields": WHOLE | {"mood": Template.name}}, "Whole and what its list can render differ in: mood."),
        ({"query": SummaryQuery}, "Item and what its list can render differ in: style."),
        ({"query": ExpandingQuery}, "ExpandingQuery and what its list can expand differ in: owner."),
        ({"expand": {"owner": Template.owner}}, "Query and what its list can expand differ in: owner."),
        ({"query": SortingQuery}, "SortingQuery and the sort keys of its list differ in: name."),
    ],
)
def test_a_forgotten_filter_or_field_is_an_error(forgotten: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError) as refused:
        listing(**forgotten)
    assert str(refused.value) == message
