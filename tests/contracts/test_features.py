"""A new feature must be entered in the app and in the export of an account."""

import re

from piccolo.columns import ForeignKey

from service.exports.queries import _EVERYTHING
from service.piccolo_app import APP_CONFIG
from service.users.tables import User
from tests.support.routes import HANDLERS
from tests.support.servers import ROOT

# Rows of a user that the export leaves out: they make links and repeated requests work, for a day at most.
NOT_EXPORTED = {"email_tokens", "idempotency_keys"}


def test_every_controller_is_registered() -> None:
    written = {
        name
        for path in (ROOT / "service").rglob("*.py")
        for name in re.findall(r"^class (\w+)\(Controller\)", path.read_text(), re.MULTILINE)
    }
    registered = {handler.fn.__qualname__.partition(".")[0] for handler in HANDLERS.values()}
    assert written - registered == set(), "add them to service/app.py"


def test_every_table_of_a_user_is_exported() -> None:
    owned = {
        table._meta.tablename
        for table in APP_CONFIG.table_classes
        for column in table._meta.columns
        if isinstance(column, ForeignKey) and column._foreign_key_meta.resolved_references is User
    }
    exported = {query._write().table._meta.tablename for query in _EVERYTHING.values()}  # each a Query
    assert owned - exported == NOT_EXPORTED, "add them to service/exports/queries.py"
