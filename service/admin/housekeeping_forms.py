"""The form of operators that runs a daily command, in a process of its own as ``cron`` would."""

import asyncio
import subprocess
import sys
from typing import Annotated, Any, Literal, get_args

from piccolo_admin.endpoints import FormConfig
from pydantic import Field

from service.admin.forms import Confirm, OperatorForm, Preview, Reason, operator_form, refused
from service.audit.actions import Action
from service.audit.queries import record

MOST_SECONDS = 600
Task = Literal["purge", "collect_files"]
TASKS: tuple[Task, ...] = get_args(Task)
_EFFECTS: dict[str, str] = {
    "purge": "Deletes what has expired: trash and deleted accounts after 30 days, ended sessions, old audit entries.",
    "collect_files": "Deletes uploaded files that nothing has referred to for a day. It waits while a backup is made.",
}
_ONE = asyncio.Lock()  # it keeps a thread of the worker busy


class Housekeeping(OperatorForm):
    task: Annotated[str, Field(json_schema_extra={"enum": list(TASKS)})]
    reason: Reason
    confirm: Confirm = False


async def _to_run(data: Housekeeping) -> Preview:
    """Runs the command, too, once it is confirmed: ``_run`` is in a transaction, which must not wait for it."""
    if data.task not in _EFFECTS:
        raise refused("task", f"Must be one of {', '.join(TASKS)}.")
    return Preview(await _output_of(data.task) if data.confirm else None, _EFFECTS[data.task])


async def _output_of(task: str) -> str:
    """The numbers of deleted rows and files, in one line. The command logs where the service logs. As for pictures, a
    thread starts it, because uvloop would block the event loop."""
    if _ONE.locked():
        raise refused("task", "Another one is running. Wait for its end.")
    command = [sys.executable, "-m", "piccolo.main", "service", task]
    try:
        async with _ONE:
            done = await asyncio.to_thread(
                subprocess.run, command, stdout=subprocess.PIPE, text=True, timeout=MOST_SECONDS
            )
    except subprocess.TimeoutExpired:
        raise refused("task", f"It was ended after {MOST_SECONDS // 60} minutes. Run it on the machine.") from None
    if done.returncode:
        raise refused("task", f"It has failed with status {done.returncode}. The log of the service says why.")
    counts = [line.strip() for line in done.stdout.splitlines() if line.endswith(" deleted")]
    return ", ".join(count for count in counts if not count.endswith(": 0 deleted")) or "nothing to delete"


async def _run(output: Any, data: Housekeeping) -> str:
    await record(Action.RUN_TASK, "service", None, task=data.task, result=output)
    return f"{data.task} is done: {output}."


FORMS: list[FormConfig] = [
    operator_form(
        "Run housekeeping",
        "Service",
        "Runs a daily command now. The answer comes when it has ended.",
        Housekeeping,
        _to_run,
        _run,
    )
]
