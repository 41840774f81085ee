from piccolo.columns import Integer, Timestamptz, Varchar
from piccolo.columns.defaults import TimestamptzNow
from piccolo.columns.readable import Readable
from piccolo.constraints import Check
from piccolo.table import Table

from service.database.engine import DB

NAME_LENGTH = 64


class StoredFile(Table, db=DB, tablename="files", help_text="What was uploaded; the bytes are in the storage."):
    name = Varchar(length=NAME_LENGTH, primary_key=True, default=None, null=False, help_text="HMAC-SHA256 of it.")
    size = Integer(default=None, null=False, help_text="Bytes that were uploaded.")
    width = Integer(default=None, null=True, help_text="Pixels; none: it is no picture.")
    height = Integer(default=None, null=True)
    color = Varchar(length=7, default=None, null=True, help_text="The one that most of it has, as #rrggbb.")
    stored_at = Timestamptz(default=TimestamptzNow(), null=False, help_text="When it was uploaded last.")

    pictures_have_bounds_and_color = Check("(width IS NULL) = (height IS NULL) AND (width IS NULL) = (color IS NULL)")

    @classmethod
    def get_readable(cls) -> Readable:
        return Readable("%s", [cls.name])
