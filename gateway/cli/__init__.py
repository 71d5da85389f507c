"""The command line: `main.py` holds the table of commands and the one error boundary; a command is one module.

A command's module has `add_arguments(parser)` and `main(args) -> int` (the exit code), and may set `ADD_HELP = False`
when it wants `-h` for itself and adds `--help` with its arguments. `args.prog` is the name that was typed: `gateway` or
`hayhooks`.
What a user can mend is raised as a `GatewayError` with one sentence; results go to stdout, all else to stderr.
"""
