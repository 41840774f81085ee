import msgspec
from msgspec import UNSET, UnsetType

from service.characters.schemas import CharacterSummary
from service.errors import Problem


class ImportOutcome(msgspec.Struct, kw_only=True):
    """The result for one file: the status 201 with the character, or a problem. `notes` list what was normalised."""

    file: str
    status: int
    character: CharacterSummary | UnsetType = UNSET
    problem: Problem | UnsetType = UNSET
    notes: list[str]


class ImportOutcomes(msgspec.Struct, kw_only=True):
    """One result for each file, in the same order."""

    items: list[ImportOutcome]
