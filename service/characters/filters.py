"""The filters of lists of characters, without those by attributes."""

from typing import get_args

from piccolo.columns.combination import WhereRaw

from service.characters.tables import Character
from service.database.prepared import Param
from service.lists.search import by_name, filters_of, searched
from service.lists.statements import Filter
from service.schemas import Style

SEARCHED, RANK = searched(Character, Character.deleted_at.is_null())
BY_NAME = by_name(Character)
STYLE = Filter(Character.style == Param("style"))
FILTERS = filters_of(Character, BY_NAME) | {
    "q": SEARCHED,
    "visibility": Filter(Character.visibility == Param("visibility")),
    "template": Filter(Character.template == Param("template"), selective=True),
    "template_version": Filter(Character.template_version == Param("template_version"), unindexed=True),
}
# Literals, because PostgreSQL knows how common each style is. With a parameter, all styles would share one plan.
STYLES = {style: Filter(WhereRaw(f"{{}} = '{style}'", Character.style), selective=True) for style in get_args(Style)}
