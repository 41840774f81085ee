"""Reads pictures from requests and sends them in responses."""

import time
from collections.abc import AsyncGenerator
from contextlib import ExitStack, asynccontextmanager
from datetime import UTC, datetime
from io import SEEK_END
from tempfile import SpooledTemporaryFile
from typing import IO, Any

from litestar import Request, Response
from litestar.datastructures import UploadFile
from litestar.enums import MediaType
from litestar.types import Empty
from multipart import MultipartSegment, ParserError, ParserLimitReached, PushMultipartParser

from service.errors import BadRequest, TooLarge, Unprocessable, UnsupportedMediaType, Violation
from service.media.queries import LINK_SECONDS, file_name, picture_version, read_file
from service.media.schemas import MAX_UPLOAD, SIZES, PictureQuery, PortraitLinks
from service.media.storage import STORAGE, WEBP
from service.validation import pointer, reported
from service.web.accept import accepted_types
from service.web.requests import FORM, MAX_PARTS
from service.web.responses import Rendered

MAX_BODY = MAX_UPLOAD + 64 * 1024  # a form has headers around the file

SPOOLED = 64 * 1024  # bytes of a file in a form; more are on disk

_DAY = "public, max-age=86400"
_REDIRECTED = "public, max-age=300"  # half of LINK_SECONDS
_REVALIDATED = "public, no-cache"
_EMBEDDABLE = {"Cross-Origin-Resource-Policy": "cross-origin"}  # any site may show the picture


@asynccontextmanager
async def uploaded_picture(request: Request[Any, Any, Any]) -> AsyncGenerator[IO[bytes], None]:
    """The picture in a body, or in a form with one file, until the end of the block. A large one is on disk. Raises
    BadRequest if the body is missing, TooLarge, UnsupportedMediaType, Unprocessable."""
    media_type, _ = request.content_type
    with ExitStack() as opened:
        if media_type == FORM:
            (upload,) = await read_files(request)
            file: IO[bytes] = opened.enter_context(upload.file)
        elif media_type.startswith("image/") or media_type in ("", "application/octet-stream"):
            file = opened.enter_context(SpooledTemporaryFile(max_size=SPOOLED))
            async for piece in request.stream():
                file.write(piece)
        else:
            raise UnsupportedMediaType.of(f"The body must be a picture, or a form ({FORM}) with one picture as 'file'.")
        try:
            size = file.seek(0, SEEK_END)
            if not size and media_type != FORM:
                raise BadRequest.missing_body()
            if not size:
                raise Unprocessable("The file is empty.")
            if size > MAX_UPLOAD:
                raise TooLarge(f"A file may have at most {MAX_UPLOAD // 1024**2} MiB.")
            yield file
        except (TooLarge, UnsupportedMediaType, Unprocessable) as error:
            error.errors = [Violation(error.detail, pointer="/file" if media_type == FORM else "")]
            raise


async def read_files(request: Request[Any, Any, Any], *, most: int = 1) -> list[UploadFile]:
    """The 1 to ``most`` files of a form, each in a field called ``file``. Raises BadRequest or Unprocessable."""
    if request._connection_state.body is not Empty:
        await request.body()  # an idempotent write has already read the stream
    form = _Form(most)
    uploads: Any = form.files  # Litestar's type knows lists of texts only
    request._connection_state.form = {"file": uploads}  # Litestar closes them after the response
    try:
        await form.read(request)
    except (ParserError, ParserLimitReached, UnicodeError) as error:
        raise BadRequest("The form cannot be read.") from error
    faults = [Violation("Is not a known field.", pointer=pointer("", name)) for name in form.unknown]
    if form.is_wrong or not form.files:
        faults.append(Violation("Must be one file." if most == 1 else f"Must be 1 to {most} files.", pointer="/file"))
    if faults:
        raise Unprocessable.of(reported(faults))
    return form.files


async def first_bytes(file: UploadFile, count: int) -> bytes:
    start = await file.read(count)
    await file.seek(0)
    return start


class _Form:
    """A form of files. The content of every other part is skipped: Litestar would collect a text in memory and decode
    it as its part says, and some of Python's codecs take hours for a few megabytes."""

    def __init__(self, most: int) -> None:
        self.files: list[UploadFile] = []
        self.unknown: dict[str, None] = {}  # names of fields that are not known
        self.is_wrong = False  # a file too many, or a text in its place
        self._most = most

    async def read(self, request: Request[Any, Any, Any]) -> None:
        boundary = request.content_type[1].get("boundary", "")
        file: UploadFile | None = None
        with PushMultipartParser(boundary.encode(), max_segment_count=MAX_PARTS) as parser:
            async for chunk in request.stream():
                if parser.closed or not (chunk or self.files or self.unknown or self.is_wrong):
                    continue  # behind the end, or an empty body
                for part in parser.parse(chunk):
                    if isinstance(part, MultipartSegment):
                        file = self._begin(part)
                    elif part and file is not None:
                        await file.write(part)
        for each in self.files:
            await each.seek(0)

    def _begin(self, part: MultipartSegment) -> UploadFile | None:
        if part.name != "file":
            self.unknown[part.name] = None
            return None
        if not part.filename or len(self.files) == self._most:
            self.is_wrong = True
            return None
        file = UploadFile(part.content_type or "", part.filename, max_spool_size=SPOOLED)
        self.files.append(file)
        return file


async def show_picture(
    request: Request[Any, Any, Any], row: Any, query: PictureQuery, *, public: bool
) -> Response[Any]:
    """The picture of a row of ``picture_columns``, a redirect to it, or links as JSON if the client accepts JSON and no
    picture.
    Caches may keep it only at a URL with its version, because any other URL will show another picture later."""
    accepted = accepted_types(request.scope)
    if not accepted.accepts(WEBP) and accepted.accepts(MediaType.JSON):
        return Response(await _links(row), headers={"Vary": "Accept", "Cache-Control": "no-store"})
    name = file_name(row["name"], query.size)
    has_version = query.v == picture_version(row["name"])
    if STORAGE.gives_links:
        caching = _REDIRECTED if public and has_version else "no-store"
        headers = {"Location": await STORAGE.link(name, LINK_SECONDS), "Vary": "Accept", "Cache-Control": caching}
        return Rendered("", status=307, headers=headers)
    caching = (_DAY if has_version else _REVALIDATED) if public else "private, no-cache"
    headers = {"ETag": f'"{row["name"]}-{query.size}"', "Vary": "Accept", "Cache-Control": caching}
    return Response(await read_file(name), media_type=WEBP, headers=headers | _EMBEDDABLE)


async def show_linked_file(name: str, expires: int) -> Response[bytes]:
    """The file behind a link that expires at ``expires``, in seconds since 1970."""
    left = max(0, expires - int(time.time()))
    headers = {"ETag": f'"{name}"', "Cache-Control": f"private, max-age={left}", "Vary": "Accept"}
    return Response(await read_file(name), media_type=WEBP, headers=headers | _EMBEDDABLE)


async def _links(row: Any) -> PortraitLinks:
    expires_at = datetime.fromtimestamp(int(time.time()) + LINK_SECONDS, UTC)
    return PortraitLinks(
        width=row["width"],
        height=row["height"],
        color=row["color"],
        links={size: await STORAGE.link(file_name(row["name"], size), LINK_SECONDS) for size in SIZES},
        expires_at=expires_at,
    )
