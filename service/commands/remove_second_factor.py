"""``piccolo service remove_second_factor <username>``: for an operator who lost the phone and the recovery codes."""

from service.admin.operators import Operator, OperatorSession
from service.admin.second_factors import SecondFactor
from service.audit.actions import Action
from service.audit.queries import record
from service.database.engine import DB


async def remove_second_factor(username: str) -> None:
    """
    Remove an operator's second factor and end the operator's sessions.

    :param username:
        The operator, who signs in with the password alone from then on.

    """
    operator = await Operator.select(Operator.id).where(Operator.username == username).first()
    if operator is None:
        raise SystemExit(f"There is no operator {username}.")
    async with DB.transaction():
        if not await SecondFactor.revoke(operator["id"]):
            raise SystemExit(f"{username} has no second factor.")
        await OperatorSession.delete().where(OperatorSession.user_id == operator["id"])
        await record(Action.REMOVE_SECOND_FACTOR, "operator", operator["id"], username=username)
    print(f"The second factor of {username} is removed.")
