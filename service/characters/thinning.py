"""Bounds the history of a character: older revisions are removed one by one, from where they are densest for their age.

A removed revision leaves the values that it kept to the next one, so every other revision still rebuilds the state that
it had. The newest one and the creation always stay.
"""

from typing import Any

from piccolo.querystring import QueryString

from service.database.prepared import Param, Prepared
from service.settings import settings

_MOST_AT_ONCE = 2  # in one write: more than one, so that a history shrinks after the setting was lowered

# Removes the revision with the smallest gap between its neighbours, divided by its age. The next one takes its values,
# because they are older, and it keeps the whole content if one of the two did. A portrait that both had replaced is no
# longer kept, which frees its bytes.
_THIN = Prepared(
    lambda: QueryString(
        "WITH kept AS (SELECT number, lag(number, 1, 1) OVER by_number AS before, lead(number) OVER by_number AS after"
        "  FROM revisions WHERE character = {} WINDOW by_number AS (ORDER BY number)),"
        " densest AS (SELECT number, after FROM kept WHERE after IS NOT NULL AND (SELECT count(*) FROM kept) >= {}::int"
        "  ORDER BY (after - before)::float / ((SELECT max(number) FROM kept) - number), number LIMIT 1),"
        " removed AS (DELETE FROM revisions USING densest WHERE character = {} AND revisions.number = densest.number"
        "  RETURNING replaced, unchanged, after),"
        " freed AS (UPDATE user_usage SET stored_bytes = stored_bytes - size_of_file(next.replaced ->> 'portrait')"
        "  FROM removed JOIN revisions AS next ON next.character = {} AND next.number = removed.after"
        "  WHERE \"user\" = {} AND next.replaced ? 'portrait' AND removed.replaced ? 'portrait')"
        " UPDATE revisions SET replaced = revisions.replaced || removed.replaced,"
        "  unchanged = coalesce(removed.unchanged, revisions.unchanged)"
        "   - ARRAY(SELECT jsonb_object_keys(revisions.replaced || removed.replaced))"
        " FROM removed WHERE revisions.character = {} AND revisions.number = removed.after"
        " RETURNING (SELECT count(*) FROM kept) > {}::int AS more",
        Param("character"),
        Param("most"),
        Param("character"),
        Param("character"),
        Param("owner"),
        Param("character"),
        Param("most"),
    )
)


async def thin_revisions(row: Any, *, at_once: int = _MOST_AT_ONCE) -> int:
    """Removes up to ``at_once`` revisions of the locked ``row`` while it has more than the setting allows. Returns how
    many were removed."""
    for removed in range(at_once):
        done = await _THIN.one(character=row["id"], owner=row["owner"], most=settings.revisions_kept)
        if done is None or not done["more"]:
            return removed + (done is not None)
    return at_once
