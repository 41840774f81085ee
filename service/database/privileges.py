"""The privileges that the role of the service lacks on its tables, and the statements that grant them."""

from collections import defaultdict
from typing import NamedTuple

from piccolo.querystring import QueryString

from service.database.prepared import Prepared

_MOST_NAMES = 3  # beyond, one statement is for all tables

# Tables of others may be in the schema, too: those of the service have the owner of its migrations
_LACKING = Prepared(
    lambda: QueryString(
        "SELECT relname AS name, relkind = 'S' AS is_sequence, quote_ident(current_user) AS role,"
        " string_agg(privilege, ', ' ORDER BY place) AS privileges"
        " FROM pg_class, unnest(CASE relkind WHEN 'S' THEN ARRAY['USAGE']"
        " ELSE ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE'] END) WITH ORDINALITY AS needed (privilege, place)"
        " WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'S')"
        " AND relowner = (SELECT relowner FROM pg_class WHERE oid = to_regclass('public.migration'))"
        " AND NOT CASE relkind WHEN 'S' THEN has_sequence_privilege(oid, privilege)"
        " ELSE has_table_privilege(oid, privilege) END GROUP BY 1, 2, 3 ORDER BY 2, 1"
    )
)


class Lacking(NamedTuple):
    name: str  # of a table or sequence
    is_sequence: bool
    role: str
    privileges: str  # SELECT, INSERT


async def lacking_privileges() -> list[Lacking]:
    return [Lacking(**row) for row in await _LACKING.all()]


def grants(lacking: list[Lacking]) -> str:
    """The statements that give the privileges."""
    names: dict[tuple[bool, str, str], list[str]] = defaultdict(list)
    for each in lacking:
        names[each.is_sequence, each.privileges, each.role].append(each.name)
    return " ".join(
        f"GRANT {privileges} ON {_objects(is_sequence, of_them)} TO {role};"
        for (is_sequence, privileges, role), of_them in names.items()
    )


def _objects(is_sequence: bool, names: list[str]) -> str:
    kind = "SEQUENCE" if is_sequence else "TABLE"
    return f"{kind} {', '.join(names)}" if len(names) <= _MOST_NAMES else f"ALL {kind}S IN SCHEMA public"
