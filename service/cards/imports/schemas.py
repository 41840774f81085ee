from typing import Annotated, Literal
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from service.cards.tables import FILE_LENGTH
from service.characters.schemas import CharacterSummary
from service.errors import Problem
from service.parameters import DryRunQuery

OnDuplicate = Literal["keep", "skip", "update"]


class ImportQuery(DryRunQuery, kw_only=True, frozen=True):
    """How to import a file that you have imported before."""

    on_duplicate: Annotated[
        OnDuplicate,
        Meta(
            description="For a file whose bytes you have imported before: `keep` that character and create another,"
            " `skip` the file, or `update` that character. Characters in the trash do not count."
        ),
    ] = "keep"


class ImportOutcome(msgspec.Struct, kw_only=True):
    """The result for one file: the status 201 with the new character, 200 with the one that the same file made before,
    or a problem. `notes` list what was corrected. `duplicate_of` is the id of your character that the same file made or
    updated before."""

    file: str
    status: int
    character: CharacterSummary | UnsetType = UNSET
    problem: Problem | UnsetType = UNSET
    notes: list[str]
    duplicate_of: UUID | UnsetType = UNSET


class ImportOutcomes(msgspec.Struct, kw_only=True):
    """One result for each file, in the same order."""

    items: list[ImportOutcome]


def base_name(filename: str) -> str:
    """The printable part of a file name, without folders."""
    name = filename.replace("\\", "/").rpartition("/")[2]
    return "".join(letter for letter in name if letter.isprintable())[:FILE_LENGTH]
