"""Wire types that features share: bounded aliases and pages."""

import re
import unicodedata
from collections.abc import Iterable
from datetime import datetime
from itertools import chain, groupby
from typing import Annotated, Any, Generic, Literal, TypeVar

import msgspec
from msgspec import Meta

# Ends a pattern. A bare $ also matches before a final newline in Python.
END = r"$(?!\n)"

# Control characters (C0, C1), line and paragraph separators, and characters that change the text direction.
UNPRINTABLE = "[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]"
PLAIN = f"^[^{UNPRINTABLE[1:-1]}]*" + END
PLAIN_FAULT = {"fault": "Must not contain control characters."}  # the fault that is reported instead of the pattern

# Letters and symbols that show nothing, and the code points that Unicode ignores by default
BLANK = {0x115F, 0x1160, 0x2065, 0x2800, 0x3164, 0xFFA0, *range(0xFFF0, 0xFFF9), 0xFFFC, 0x1D159}
BLANK |= {*range(0xE0000, 0xE1000)}


def _invisible() -> str:
    """For a character class: separators, controls, formats, marks without a letter, blank ones, and private use."""
    kinds = {"Zs", "Zl", "Zp", "Cc", "Cf", "Co", "Mn", "Mc", "Me"}
    planes = chain(range(0x20000), range(0xE0000, 0xE1000))  # the others have none, but see below
    codes = [code for code in planes if code in BLANK or unicodedata.category(chr(code)) in kinds]
    runs = [[code for _, code in run] for _, run in groupby(enumerate(codes), lambda pair: pair[1] - pair[0])]
    planes_0_to_14 = "".join(f"\\U{run[0]:08x}-\\U{run[-1]:08x}" for run in runs)
    return planes_0_to_14 + r"\U000f0000-\U0010ffff"  # all of planes 15 and 16 is for private use


VISIBLE = re.compile(f"[^{_invisible()}]")


def line(max_length: int, *examples: str, may_be_empty: bool = False) -> Meta:
    """A line of text in which something is to be seen."""
    pattern = rf"^(?=[\s\S]*?{VISIBLE.pattern}){PLAIN[1:]}"
    return Meta(
        min_length=None if may_be_empty else 1,
        max_length=max_length,
        pattern=f"{pattern}|^{END}" if may_be_empty else pattern,
        extra={
            "unless": {PLAIN: "Must not contain control characters."},
            "fault": "Must contain at least one visible character.",
        },
        examples=list(examples) or None,
    )


NAME_LENGTH = 256
TITLE_LENGTH = 120
DESCRIPTION_LENGTH = 10_000
LONG_DESCRIPTION_LENGTH = 100_000
PROMPT_LENGTH = 4_000
TAG_LENGTH = 100
MOST_TAGS = 200
EXTENSIONS_SIZE = 256 * 1024  # bytes of JSON

Name = Annotated[str, line(NAME_LENGTH, "Mira Halloran")]
Title = Annotated[str, line(TITLE_LENGTH, "Story generator")]
Description = Annotated[str, Meta(max_length=DESCRIPTION_LENGTH)]
LongDescription = Annotated[
    str, Meta(max_length=LONG_DESCRIPTION_LENGTH, description="Searches find the words of the first 16,000 characters.")
]
Prompt = Annotated[str, Meta(max_length=PROMPT_LENGTH)]
Tag = Annotated[str, line(TAG_LENGTH)]
Tags = Annotated[list[Tag], Meta(max_length=MOST_TAGS, examples=[["detective", "night"]])]
Style = Literal["realistic", "cartoon", "anime", "fantasy", "cyberpunk", "vintage", "minimalist"]
Visibility = Literal["private", "unlisted", "public"]
Time = Annotated[datetime, Meta(tz=True)]
VersionNumber = Annotated[int, Meta(ge=1, le=2**31 - 1)]

Item = TypeVar("Item")


class Page(msgspec.Struct, Generic[Item], kw_only=True):
    """A page of a list. `next_cursor` is null on the last page."""

    items: list[Item]
    next_cursor: str | None = None
    total: int | msgspec.UnsetType = msgspec.UNSET


class Collection(msgspec.Struct, Generic[Item], kw_only=True):
    """A complete list, without pages."""

    items: list[Item]


def constrained(column: str, choices: Any) -> str:
    """The SQL condition that ``column`` is one of a Literal's choices."""
    return f"{column} IN ({', '.join(repr(choice) for choice in choices.__args__)})"


def check_members(struct: type[msgspec.Struct], names: Iterable[str], what: str) -> None:
    """Raises TypeError unless ``names`` are the names of all members of ``struct``. ``what`` has these names."""
    check_same(struct, (field.encode_name for field in msgspec.structs.fields(struct)), names, what)


def check_same(struct: type[msgspec.Struct], declared: Iterable[str], names: Iterable[str], what: str) -> None:
    """Raises TypeError unless ``what`` has exactly the names that ``struct`` has declared."""
    if differing := set(declared) ^ set(names):
        raise TypeError(f"{struct.__name__} and {what} differ in: {', '.join(sorted(differing))}.")
