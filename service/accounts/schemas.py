from service.schemas import Input
from service.users.schemas import GivenPassword, Password


class AccountDelete(Input, kw_only=True):
    password: GivenPassword


class PasswordUpdate(Input, kw_only=True):
    current_password: GivenPassword
    new_password: Password
