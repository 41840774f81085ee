import msgspec
from msgspec import UNSET, UnsetType

from service.characters.schemas import CharacterSummary
from service.errors import Problem


class ImportOutcome(msgspec.Struct, kw_only=True):
    """What became of one file: 201 with the character, or a problem; `notes` say what was normalised."""

    file: str
    status: int
    character: CharacterSummary | UnsetType = UNSET
    problem: Problem | UnsetType = UNSET
    notes: list[str]


class ImportOutcomes(msgspec.Struct, kw_only=True):
    """One for each file, in their order."""

    items: list[ImportOutcome]
