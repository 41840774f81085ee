import msgspec


class PromptRead(msgspec.Struct, kw_only=True):
    """The prompt with its placeholders filled in; those without a value, and those that name nothing."""

    prompt: str
    missing: list[str]
    unknown: list[str]
