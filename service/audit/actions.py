"""The names of what the audit log records, each with a label for operators.

A name is a verb and its object, such as ``suspend_user``: the kind of the row, or what of it changes.
"""

from enum import StrEnum


class Action(StrEnum):
    label: str

    def __new__(cls, name: str, label: str) -> "Action":
        action = str.__new__(cls, name)
        action._value_, action.label = name, label
        return action

    # Access of members and operators
    SIGN_IN = "sign_in", "Signed in"
    SIGN_OUT = "sign_out", "Ended a session or all"
    REFUSE_PASSWORD = "refuse_password", "Wrong password"
    CHANGE_PASSWORD = "change_password", "Changed a password"
    REFUSE_CODE = "refuse_code", "Wrong code"
    ADD_SECOND_FACTOR = "add_second_factor", "Made a second factor active"
    REMOVE_SECOND_FACTOR = "remove_second_factor", "Removed a second factor"
    USE_RECOVERY_CODE = "use_recovery_code", "Used a recovery code"
    CREATE_API_KEY = "create_api_key", "Created an API key"
    REVOKE_API_KEY = "revoke_api_key", "Revoked an API key"

    # Accounts of members
    CHANGE_EMAIL = "change_email", "Changed an e-mail address"
    SEND_VERIFICATION = "send_verification", "Sent a verification again"
    VERIFY_EMAIL = "verify_email", "Verified an e-mail address"
    RELEASE_EMAIL = "release_email", "Released an unverified e-mail address"
    SUSPEND_USER = "suspend_user", "Suspended a member"
    REACTIVATE_USER = "reactivate_user", "Reactivated a member"
    EXPORT_USER = "export_user", "Exported an account"
    DELETE_USER = "delete_user", "Deleted an account"
    PURGE_USER = "purge_user", "Purged a deleted account"

    # What members own
    CHANGE_VISIBILITY = "change_visibility", "Changed a visibility"
    CREATE_CHARACTER = "create_character", "Imported a character"
    UPDATE_CHARACTER = "update_character", "Edited a character"
    TRASH_CHARACTER = "trash_character", "Moved a character to the trash"
    RESTORE_CHARACTER = "restore_character", "Restored a character"
    PURGE_CHARACTER = "purge_character", "Deleted a character for good"
    CREATE_RELATIONSHIP = "create_relationship", "Added a relationship"
    UPDATE_RELATIONSHIP = "update_relationship", "Edited a relationship"
    DELETE_RELATIONSHIP = "delete_relationship", "Removed a relationship"
    CREATE_TEMPLATE = "create_template", "Created a template"
    UPDATE_TEMPLATE = "update_template", "Edited a template"
    RETIRE_TEMPLATE = "retire_template", "Retired a template"
    CREATE_TEMPLATE_VERSION = "create_template_version", "Created a template version"
    PUBLISH_TEMPLATE_VERSION = "publish_template_version", "Published a template version"
    DEPRECATE_TEMPLATE_VERSION = "deprecate_template_version", "Deprecated a template version"

    # Operators and the service
    CREATE_OPERATOR = "create_operator", "Created an operator"
    CHANGE_ROLE = "change_role", "Changed an operator's role"
    DISABLE_OPERATOR = "disable_operator", "Disabled an operator"
    ENABLE_OPERATOR = "enable_operator", "Enabled an operator"
    RUN_TASK = "run_task", "Ran housekeeping"


def label_of(name: str) -> str:
    """Of an action that only another release knows, the name."""
    return next((action.label for action in Action if action == name), name)
