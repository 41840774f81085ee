"""Forms of operators. A form says what it would do, and does it once it is confirmed.

It calls the functions that the API's requests call, so versions, revisions, the feed and the audit log follow.
"""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, NamedTuple, NoReturn, Self, TypeVar

import msgspec
from loguru import logger
from piccolo_admin.endpoints import FileResponse, FormConfig
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    StringConstraints,
    ValidationError,
    model_validator,
)
from starlette.exceptions import HTTPException
from starlette.requests import Request

from service.admin.field_faults import in_plain_words
from service.admin.json_texts import NotAnObject, line_of, read_object
from service.admin.pages import page_of, row_page
from service.admin.roles import check_form
from service.audit.actions import Action
from service.audit.queries import Recorded, on_behalf_of_operator
from service.auth.token_cache import forget_tokens
from service.database.engine import DB
from service.errors import Forbidden, ServiceError, Unprocessable, Violation
from service.mail.outbox import wake_worker
from service.text.json_values import is_same
from service.validation import text_fault

STALE = "Open its page and the form again."  # which reads the version of now
SHOWN_LENGTH = 80  # characters of a value that a preview shows


def _storable(text: str) -> str:
    if fault := text_fault(text):
        raise ValueError(fault)
    return text


Text = Annotated[str, AfterValidator(_storable)]
Line = Annotated[str, StringConstraints(strip_whitespace=True, max_length=300), AfterValidator(_storable)]
LongText = Annotated[Text, Field(json_schema_extra={"widget": "text-area"})]
Reason = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=3, max_length=500),
    AfterValidator(_storable),
    Field(description="Stands in the audit log.", json_schema_extra={"widget": "text-area"}),
]
Confirm = Annotated[bool, Field(description="False: shows what would happen. True: does it.")]


class OperatorForm(BaseModel):
    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="wrap")
    @classmethod
    def _check(cls, given: Any, check: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return check(given)
        except ValidationError as error:
            raise in_plain_words(cls.__name__, error) from None


class Preview(NamedTuple):
    """The row that a form is about, and sentences that say what the form would do to it."""

    row: Any
    text: str


Model = TypeVar("Model", bound=OperatorForm)


def operator_form(
    name: str,
    group: str,
    description: str,
    model: type[Model],
    find: Callable[[Model], Awaitable[Preview]],
    act: Callable[[Any, Model], Awaitable[str | FileResponse]],
) -> FormConfig:
    """``find`` looks up the row; ``act`` changes it in one transaction, and returns what was done or a file. The
    answer ends with the address of the row's page. Both raise ServiceErrors, whose violations have pointers to the
    fields of ``model``. For a preview, what ``act`` did is rolled back: so a preview has all faults."""

    async def submit(request: Request, data: Any) -> str | FileResponse:
        operator = request.user.display_name
        try:
            await check_form(request.user.user_id, form.slug)
        except Forbidden as refusal:
            raise HTTPException(refusal.status, refusal.detail) from None
        try:
            preview = await find(data)
            with on_behalf_of_operator(operator, data.reason) as recorded:
                async with DB.transaction() as transaction:
                    transaction.is_dry_run = not data.confirm
                    done = await act(preview.row, data)
                    if transaction.is_dry_run:
                        await transaction.rollback()
            if not data.confirm:
                raise Unprocessable.of([Violation(f"{preview.text} Choose True to confirm.", pointer="/confirm")])
        except ServiceError as error:
            _refuse(error, data)
        forget_tokens()
        wake_worker()
        told = done if isinstance(done, str) else done.file_name
        logger.info("Operator {}: {} {}", operator, name, told)
        page = _page_of(recorded)
        return f"{done} Page: {page}" if isinstance(done, str) and page else done

    form = FormConfig(name, model, submit, description, form_group=group)
    return form


def _page_of(recorded: list[Recorded]) -> str | None:
    """The address of the row that a form made or changed, as the audit log has it: a version, of which the row is the
    template; of a relationship that is gone, its character's."""
    if not recorded:
        return None
    last = recorded[-1]
    if version := last.detail.get("version"):
        return row_page("template_versions", version)
    if last.action is Action.DELETE_RELATIONSHIP:
        return page_of("character", last.detail["character"])
    return page_of(last.kind, last.row)


def _refuse(error: ServiceError, data: OperatorForm) -> NoReturn:
    """Answers as Piccolo Admin answers its own errors: its page shows each with the name of its field."""
    if not error.errors:
        raise ValueError(error.detail)  # which Piccolo Admin shows above the form
    faults = [_fault(violation, data) for violation in error.errors]
    raise HTTPException(422, faults)  # type: ignore[arg-type] # FastAPI's may be any JSON


def _fault(violation: Violation, data: OperatorForm) -> dict[str, Any]:
    """The page shows the last item of ``loc`` as the field. A fault in a field of JSON names line and path."""
    place = (violation.pointer or violation.parameter or violation.header or "form").removeprefix("/")
    field, _, within = place.partition("/")
    text, detail = getattr(data, field, None), violation.detail
    if within and isinstance(text, str) and text.lstrip().startswith("{"):
        path = [name.replace("~1", "/").replace("~0", "~") for name in within.split("/")]
        detail = f"Line {line_of(text, path)}: {detail}"
    return {"loc": ["body", place.removesuffix("_id")], "msg": detail, "type": "value_error"}


def refused(field: str, fault: str) -> Unprocessable:
    return Unprocessable.of([Violation(fault, pointer=f"/{field}")])


def json_object(field: str, text: str) -> dict[str, Any]:
    """Raises Unprocessable unless ``text`` is a JSON object."""
    try:
        return read_object(text)
    except NotAnObject as fault:
        raise refused(field, str(fault)) from None


def lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def shortened(value: Any) -> str:
    """A value as a preview shows it."""
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    text = " ".join(text.split())
    return f"{text[:SHOWN_LENGTH]}…" if len(text) > SHOWN_LENGTH else text or "empty"


def differences(before: dict[str, Any], after: dict[str, Any]) -> dict[str, str]:
    """The changes of each field, as a preview shows them."""
    return {
        name: f"{name}: {shortened(before[name])} → {shortened(value)}"
        for name, value in after.items()
        if not is_same(before[name], value)
    }
