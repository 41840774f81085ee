from typing import Any

import msgspec
from litestar import Controller, Request
from litestar.datastructures import UploadFile

from service.cards.imports import queries
from service.cards.imports.schemas import ImportOutcomes
from service.cards.tables import FILE_LENGTH
from service.errors import ServiceError, Unprocessable, UnsupportedMediaType, Violation
from service.media.transfer import read_form
from service.web.guards import WRITE_CHARACTERS, CurrentUser
from service.web.responses import Rendered
from service.web.routes import post

MOST_FILES = 100
MAX_BODY = 50 * 1024 * 1024


class ImportController(Controller):
    path = "/imports"
    tags = ("Cards",)

    @post(
        "/",
        status_code=200,
        guards=[WRITE_CHARACTERS],
        dry_run=True,
        idempotent=True,
        uploads=True,
        request_max_body_size=MAX_BODY,
    )
    async def import_cards(self, request: Request[Any, Any, Any], user: CurrentUser) -> Rendered[ImportOutcomes]:
        """Import characters from up to 100 Character Cards.

        Accepted are cards of V1, V2 and V3 as JSON, PNG or CHARX files. The status is 200 even if files are refused:
        each item has a `status` of its own, and `notes` that list what was normalised. All data of a card is kept for
        its export. Files that a card links to are not downloaded.
        """
        items = []
        for file in await _files(request):
            name = _plain(file.filename)
            result = await queries.import_file(user, name, await file.read())
            items.append({"file": name} | _outcome(result, request.scope))
        return Rendered(msgspec.json.encode({"items": items}))


def _outcome(result: queries.Imported | ServiceError, scope: Any) -> dict[str, Any]:
    if isinstance(result, ServiceError):
        return {"status": result.status, "problem": result.problem(scope), "notes": []}
    return {"status": 201, "character": msgspec.Raw(result.character.encode()), "notes": result.notes}


async def _files(request: Request[Any, Any, Any]) -> list[UploadFile]:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "multipart/form-data":
        raise UnsupportedMediaType("The body must be a form (multipart/form-data) with one or many 'file'.")
    form = await read_form(request)
    faults = [Violation("Is not a known field.", pointer=f"/{name}") for name in {name for name, _ in form} - {"file"}]
    files = [value for name, value in form if name == "file" and isinstance(value, UploadFile)]
    if len(files) != sum(name == "file" for name, _ in form) or not 0 < len(files) <= MOST_FILES:
        faults.append(Violation(f"Must be 1 to {MOST_FILES} files.", pointer="/file"))
    if faults:
        raise Unprocessable.of(faults)
    return files


def _plain(filename: str) -> str:
    """What a file is called, without where it lay."""
    name = filename.replace("\\", "/").rpartition("/")[2]
    return "".join(letter for letter in name if letter.isprintable())[:FILE_LENGTH]
