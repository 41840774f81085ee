"""Pictures on their way in and out, for every route that takes or gives one."""

import time
from datetime import UTC, datetime
from typing import Any

from litestar import Request, Response
from litestar.datastructures import UploadFile
from litestar.datastructures.headers import Accept
from litestar.enums import MediaType

from service.errors import BadRequest, TooLarge, Unprocessable, UnsupportedMediaType, Violation
from service.media.queries import LINK_SECONDS, file_name
from service.media.schemas import SIZES, PortraitLinks, Size
from service.media.storage import STORAGE

MAX_UPLOAD = 10 * 1024 * 1024
MAX_BODY = MAX_UPLOAD + 64 * 1024  # a form has lines of its own around the file
WEBP = "image/webp"

_DAY = "public, max-age=86400"
_REDIRECTED = "public, max-age=300"  # half of what the link lasts
_EMBEDDABLE = {"Cross-Origin-Resource-Policy": "cross-origin"}  # an <img> may be on any site


async def read_upload(request: Request[Any, Any, Any]) -> bytes:
    """The file in a body that is one, or is a form with one. Raises TooLarge, UnsupportedMediaType, Unprocessable."""
    media_type = request.headers.get("content-type", "application/octet-stream").partition(";")[0].strip().lower()
    if media_type == "multipart/form-data":
        content = await _read_form(request)
    elif media_type.startswith("image/") or media_type == "application/octet-stream":
        content = await request.body()
    else:
        raise UnsupportedMediaType("The body must be a picture, or a form (multipart/form-data) with one as 'file'.")
    if len(content) > MAX_UPLOAD:
        raise TooLarge("A file may have at most 10 MiB.")
    return content


async def _read_form(request: Request[Any, Any, Any]) -> bytes:
    form = await read_form(request)
    faults = [Violation("Is not a known field.", pointer=f"/{name}") for name, _ in form if name != "file"]
    files = [value for name, value in form if name == "file"]
    if len(files) != 1 or not isinstance(files[0], UploadFile):
        faults.append(Violation("Must be one file.", pointer="/file"))
    if faults:
        raise Unprocessable.of(faults)
    return bytes(await files[0].read())


async def read_form(request: Request[Any, Any, Any]) -> list[tuple[str, Any]]:
    """The fields of a form, by name. Raises BadRequest."""
    await request.body()  # a dry run has read it, which form() alone would not know
    try:
        return list((await request.form()).multi_items())
    except (UnicodeDecodeError, LookupError) as error:  # of a field that is text, or says that it is
        raise BadRequest("The form cannot be read.") from error


async def show_picture(request: Request[Any, Any, Any], row: Any, size: Size, *, public: bool) -> Response[Any]:
    """The picture of a row of (name, width, height, color) itself, the way to it, or links, as is asked for."""
    accepted = Accept(request.headers.get("accept", "*/*"))
    if accepted.best_match([WEBP, MediaType.JSON]) == MediaType.JSON:
        return Response(await _links(row), headers={"Vary": "Accept", "Cache-Control": "no-store"})
    name = file_name(row["name"], size)
    if STORAGE.gives_links:
        caching = _REDIRECTED if public else "no-store"
        headers = {"Location": await STORAGE.link(name, LINK_SECONDS), "Vary": "Accept", "Cache-Control": caching}
        return Response(None, status_code=307, headers=headers)
    caching = _DAY if public else "private, no-cache"
    headers = {"ETag": f'"{row["name"]}-{size}"', "Vary": "Accept", "Cache-Control": caching}
    return Response(await STORAGE.get(name), media_type=WEBP, headers=headers | _EMBEDDABLE)


async def show_linked(name: str, expires: int) -> Response[bytes]:
    """What a link gives that lasts until ``expires``, in seconds since 1970."""
    left = max(0, expires - int(time.time()))
    headers = {"ETag": f'"{name}"', "Cache-Control": f"private, max-age={left}", "Vary": "Accept"}
    return Response(await STORAGE.get(name), media_type=WEBP, headers=headers | _EMBEDDABLE)


async def _links(row: Any) -> PortraitLinks:
    expires_at = datetime.fromtimestamp(int(time.time()) + LINK_SECONDS, UTC)
    return PortraitLinks(
        width=row["width"],
        height=row["height"],
        color=row["color"],
        links={size: await STORAGE.link(file_name(row["name"], size), LINK_SECONDS) for size in SIZES},
        expires_at=expires_at,
    )
