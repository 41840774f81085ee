"""The faults of fields of a form, in plain words for operators."""

from typing import Any

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

# By pydantic's name of the fault. One that is missing here has pydantic's words
_WORDS = {
    "missing": "Must not be missing.",
    "extra_forbidden": "Is no field of this form.",
    "int_parsing": "Must be a whole number.",
    "int_parsing_size": "Is too large.",
    "int_from_float": "Must be a whole number.",
    "int_type": "Must be a whole number.",
    "greater_than_equal": "Must be at least {ge}.",
    "less_than_equal": "Must be at most {le}.",
    "string_type": "Must be a text.",
    "string_too_short": "Must have at least {min_length} characters.",
    "string_too_long": "Must have at most {max_length} characters.",
    "bool_parsing": "Must be true or false.",
    "bool_type": "Must be true or false.",
    "value_error": "{error}",
}


def in_plain_words(form: str, error: ValidationError) -> ValidationError:
    """The same faults of the same fields."""
    faults = [
        InitErrorDetails(type=_type_of(fault), loc=fault["loc"], input=fault["input"])
        for fault in error.errors(include_url=False)
    ]
    return ValidationError.from_exception_data(form, faults)


def _type_of(fault: Any) -> PydanticCustomError:
    context = {name: str(value) for name, value in fault.get("ctx", {}).items()}
    return PydanticCustomError(fault["type"], _WORDS.get(fault["type"], fault["msg"]), context)
