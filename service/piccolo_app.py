"""The one Piccolo app: its tables, its migrations, its commands."""

from pathlib import Path

from piccolo.conf.apps import AppConfig, table_finder

from service.admin.operators import OperatorSession
from service.admin.roles import OperatorRole
from service.admin.second_factors import SecondFactor
from service.commands.backup import backup
from service.commands.collect_files import collect_files
from service.commands.doctor import doctor
from service.commands.operator import operator
from service.commands.purge import purge
from service.commands.remove_second_factor import remove_second_factor
from service.commands.restore import restore
from service.commands.resync import resync
from service.commands.seed import seed
from service.commands.stats import stats
from service.database.piccolo_commands import in_one_line

_HERE = Path(__file__).parent
_MODULES = sorted(".".join(path.relative_to(_HERE.parent).with_suffix("").parts) for path in _HERE.glob("**/tables.py"))

_COMMANDS = (seed, purge, collect_files, operator, remove_second_factor, resync, doctor, stats, backup, restore)

APP_CONFIG = AppConfig(
    app_name="service",
    migrations_folder_path=str(_HERE.parent / "piccolo_migrations"),
    table_classes=[*table_finder(_MODULES, exclude_imported=True), OperatorSession, OperatorRole, SecondFactor],
    commands=[in_one_line(each) for each in _COMMANDS],
)
