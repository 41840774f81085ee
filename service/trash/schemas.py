from service.characters.schemas import CharacterSummary
from service.schemas import Time


class TrashedCharacter(CharacterSummary, kw_only=True):
    """A deleted character; 30 days after `deleted_at` it is gone for good."""

    deleted_at: Time
