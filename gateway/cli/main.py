"""The table of commands, and the one boundary where errors become exit codes.

0 done (also when the reader of stdout has left), 1 expected error, 2 usage, 3 bug, 130 interrupted.
"""

import argparse
import errno
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import NoReturn, Protocol, cast

from gateway.cli.error import CommandError, UsageError
from gateway.errors import GatewayError
from gateway.version import __version__

# Imported when called: requests alone costs 0.13 s, and `gateway --help` answers in a tenth of a second.
COMMANDS = {
    "run": ("gateway.cli.run", "serve the wrappers of a folder"),
    "status": ("gateway.cli.status", "show whether the server is up, and the state of every wrapper"),
    "check": ("gateway.cli.check", "load the wrappers of a folder and say which could not be served"),
    "chat": ("gateway.cli.chat", "talk to a wrapper in the terminal, or answer what is piped in"),
    "new": ("gateway.cli.new", "write a wrapper folder to start from"),
    "pipeline list": ("gateway.cli.pipeline_list", "print the names that serve, one a line"),
    "pipeline deploy-files": ("gateway.cli.pipeline_deploy_files", "deploy a wrapper's folder to a running server"),
    "pipeline deploy-yaml": ("gateway.cli.pipeline_deploy_yaml", "deploy a pipeline in YAML to a running server"),
    "pipeline undeploy": ("gateway.cli.pipeline_undeploy", "take a wrapper down; its files stay"),
    "pipeline rollback": ("gateway.cli.pipeline_rollback", "serve a generation again that is kept"),
    "pipeline restore": ("gateway.cli.pipeline_restore", "serve again what was taken down"),
    "pipeline run": ("gateway.cli.pipeline_run", "run a pipeline or agent with parameters and files"),
}
PLANNED = frozenset(
    {
        "pipeline deploy",
        "mcp",
        "a2a",
        "dashboard",
        "--install-completion",
        "--show-completion",
    }
)
FULL_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO})


class Command(Protocol):
    """What a command's module looks like."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def main(self, args: argparse.Namespace) -> int: ...


def run() -> NoReturn:
    """The entry of the console scripts and of `python -m gateway`."""
    sys.exit(main(sys.argv[1:]))


def main(argv: Sequence[str]) -> int:
    """Do what `argv` (without the program's name) says; returns the exit code and raises nothing."""
    prog = _typed_name()
    code = _guard(prog, lambda: _dispatch(prog, list(argv)))
    return code or _guard(prog, _flush)


def _guard(prog: str, action: Callable[[], int]) -> int:
    try:
        return action()
    except KeyboardInterrupt:
        print(f"{prog}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        _drop_stdout()  # `| head` has what it wanted
        return 0
    except GatewayError as error:
        print(f"{prog}: {error.message}", file=sys.stderr)
        return 1
    except SystemExit as error:  # argparse: 0 for --help and --version, 2 for usage
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in FULL_DISK:
            _drop_stdout()
            print(f"{prog}: cannot write: {error.strerror}", file=sys.stderr)
            return 1
        traceback.print_exc()
        print(f"{prog}: this is a bug in {prog} {__version__}; please report it with the lines above", file=sys.stderr)
        return 3


def _dispatch(prog: str, argv: list[str]) -> int:
    for count in (2, 1):
        words = " ".join(argv[:count])
        if words in COMMANDS:
            return _call(prog, words, argv[count:])
        if words in PLANNED:
            print(f"{prog}: `{prog} {words}` does not exist yet in this version ({__version__})", file=sys.stderr)
            return 2
    is_group = bool(argv) and any(words.startswith(f"{argv[0]} ") for words in COMMANDS)
    group, rest = (argv[0], argv[1:]) if is_group else ("", argv)
    parser = _overview(prog, group)
    if rest and not rest[0].startswith("-"):
        typed = f"{group} {rest[0]}".strip()
        parser.error(f"unknown command '{typed}'{_nearest(prog, typed)}")
    parser.parse_args(rest)
    parser.print_help(sys.stderr)
    return 2


def _call(prog: str, words: str, rest: list[str]) -> int:
    path, summary = COMMANDS[words]
    module = import_module(path)
    command = cast(Command, module)
    add_help = getattr(module, "ADD_HELP", True)
    parser = argparse.ArgumentParser(
        prog=f"{prog} {words}", description=f"{summary}.", add_help=add_help, allow_abbrev=False
    )
    command.add_arguments(parser)
    args = parser.parse_args(rest)
    args.prog = prog
    args.environ = dict(os.environ)  # without what stands in .env
    _load_env(Path.cwd() / ".env")
    try:
        return command.main(args)
    except UsageError as error:
        parser.error(error.message)


def _overview(prog: str, group: str) -> argparse.ArgumentParser:
    """The parser of what stands before a command: help and, at the top, the version."""
    rows = {
        words: summary for words, (_, summary) in COMMANDS.items() if words.startswith(f"{group} " if group else "")
    }
    table = "\n".join(f"  {words:<23}{summary}" for words, summary in rows.items())
    name = f"{prog} {group}".strip()
    parser = argparse.ArgumentParser(
        prog=name,
        usage=f"{name} [--help]{'' if group else ' [--version]'} COMMAND ...",
        description=None if group else "Serve a folder of Haystack wrappers, and talk to such a server.",
        epilog=f"commands:\n{table}\n\n`{prog} COMMAND --help` describes a command.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    if not group:
        parser.add_argument("--version", action="version", version=f"{prog} {__version__}")
    return parser


def _nearest(prog: str, typed: str) -> str:
    near = get_close_matches(typed, COMMANDS, n=1) or [
        words for words in COMMANDS if words.rpartition(" ")[2] == typed.rpartition(" ")[2]
    ]
    return f"; did you mean `{prog} {near[0]}`?" if near else ""


def _typed_name() -> str:
    name = Path(sys.argv[0]).stem
    return name if name in {"gateway", "hayhooks"} else "gateway"


def _load_env(path: Path) -> None:
    from dotenv import load_dotenv  # 15 ms that `gateway --help` need not pay

    try:
        load_dotenv(path, override=False)
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"cannot read {path}: {error}") from None


def _flush() -> int:
    if sys.stdout is not None:
        sys.stdout.flush()
    return 0


def _drop_stdout() -> None:
    """Points stdout at nothing: else the interpreter fails once more when it flushes at exit."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, sys.stdout.fileno())
    os.close(nothing)
