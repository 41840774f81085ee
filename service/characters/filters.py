"""The filters of lists of characters, without those by attributes."""

from typing import Any

from service.characters.tables import Character
from service.database.prepared import Param
from service.lists.choices import any_of, any_visibility, each_of
from service.lists.search import by_name, filters_of, searched
from service.lists.statements import Filter
from service.schemas import Style

SEARCHED, RANK = searched(Character, Character.deleted_at.is_null())
BY_NAME = by_name(Character)
FILTERS: dict[str, Any] = filters_of(Character, BY_NAME) | {
    "q": SEARCHED,
    "style": each_of(Character.style, Style, selective=True),
    "style.in": any_of(Character.style, Style, selective=True),
    "visibility": Filter(Character.visibility == Param("visibility")),
    "visibility.in": any_visibility(Character.visibility),
    "template": Filter(Character.template == Param("template"), selective=True),
    "template_version": Filter(Character.template_version == Param("template_version"), unindexed=True),
}
