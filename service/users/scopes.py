"""The one rule about inactive users, who are suspended or have left: nobody else sees them or what they own."""

from typing import Any

from piccolo.columns.combination import WhereRaw

from service.users.tables import User


def is_active(user: Any = User) -> Any:
    """``user`` is the table or a foreign key to it."""
    return user.status == "active"


def has_active_owner(rows: Any) -> WhereRaw:
    """``rows`` is a table whose rows have owners, or a foreign key to it. Triggers keep ``owner_inactive``, so that the
    partial indexes of public rows can leave the rows of inactive owners out."""
    return WhereRaw("NOT {}", rows.owner_inactive)


def is_public(rows: Any) -> Any:
    """Public, and not of an inactive owner. ``rows`` is a table whose rows have owners and a visibility, or a foreign
    key to it. The value is a literal, because a generic plan can use a partial index of public rows only with one."""
    return WhereRaw("{} = 'public'", rows.visibility) & has_active_owner(rows)
