from piccolo.columns import Integer, Timestamptz, Varchar
from piccolo.columns.defaults import TimestamptzNow
from piccolo.columns.readable import Readable
from piccolo.constraints import Check
from piccolo.table import Table

from service.database.engine import DB

NAME_LENGTH = 64


class StoredFile(Table, db=DB, tablename="files", help_text="Uploaded files; the bytes are in the storage."):
    name = Varchar(
        length=NAME_LENGTH, primary_key=True, default=None, null=False, help_text="HMAC-SHA256 of the bytes."
    )
    size = Integer(default=None, null=False, help_text="The bytes that the stored files count, at least 4,096 each.")
    width = Integer(default=None, null=True, help_text="In pixels; none if it is not a picture.")
    height = Integer(default=None, null=True)
    color = Varchar(length=7, default=None, null=True, help_text="The dominant color, as #rrggbb.")
    stored_at = Timestamptz(default=TimestamptzNow(), null=False, help_text="The time of the latest upload.")

    pictures_have_bounds_and_color = Check("(width IS NULL) = (height IS NULL) AND (width IS NULL) = (color IS NULL)")

    @classmethod
    def get_readable(cls) -> Readable:
        return Readable("%s", [cls.name])
