"""The errors of the command line."""

from gateway.errors import GatewayError


class CommandError(GatewayError):
    """A command cannot do what was asked: its sentence on stderr, exit code 1."""

    code = "command_error"


class UsageError(CommandError):
    """The command line itself is wrong: usage and sentence on stderr, exit code 2."""

    code = "usage_error"
