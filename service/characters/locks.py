"""The order in which a transaction locks rows, so that no two transactions wait for each other:

1. the user (KEY SHARE). A suspension and the purge of an account lock it FOR UPDATE, and so wait for the transactions
   that hold it, or keep later ones waiting before these have locked anything else.
2. characters, by id (NO KEY UPDATE; SHARE for the ends of a new relationship). With their ids known, all at once.
3. relationships, by id.
4. templates. An insertion of characters locks those that they use (KEY SHARE), which waits for nothing but the
   deletion of a template. That is a transaction of its own for each template.
5. the usage of the user, which triggers change.
6. the card of a character (SHARE for a copy), and then its document.

An insertion of a character takes the first lock by a trigger. A write of one character may skip it, as long as it does
not lock the user later. An Idempotency-Key locks the user first, because its row refers to the user. The triggers of a
suspension, a rename, and the trash lock rows by id, too.
"""

from collections.abc import Collection
from uuid import UUID

from piccolo.querystring import QueryString

from service.database.prepared import Param, Prepared
from service.users.credentials import keep_user

_LOCK_OWN = Prepared(
    lambda: QueryString(
        "SELECT id FROM characters WHERE id = ANY({}::uuid[]) AND owner = {} ORDER BY id FOR NO KEY UPDATE",
        Param("ids"),
        Param("user"),
    )
)
_LOCK_RELATIONSHIPS = Prepared(  # a feature above characters, hence plain SQL
    lambda: QueryString(
        "SELECT FROM relationships WHERE source = ANY({}::uuid[]) OR target = ANY({}::uuid[]) ORDER BY id FOR UPDATE",
        Param("ids"),
        Param("ids"),
    )
)


async def lock_many(user_id: UUID | None, character_ids: Collection[UUID], renamed: Collection[UUID]) -> None:
    """Locks what a change of several characters needs, until the transaction ends; skips characters of others.
    ``renamed`` are those whose relationships change with their names, or with their deletion."""
    await keep_user(user_id)
    if not character_ids:
        return
    own = {row["id"] for row in await _LOCK_OWN.all(ids=list(character_ids), user=user_id)}
    if changed := own.intersection(renamed):
        await _LOCK_RELATIONSHIPS.all(ids=list(changed))
