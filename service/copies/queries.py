from typing import Any
from uuid import UUID

from service.callers import Caller
from service.cards.queries import copy_card
from service.characters import queries as characters
from service.database import DB


async def copy_character(user: Caller, character_id: UUID) -> Any:
    """With its card. Raises NotFound for what the caller may not see."""
    async with DB.transaction():
        row = await characters.copy_character(user, character_id)
        await copy_card(character_id, row["id"])
    return row
