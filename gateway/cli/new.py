"""`new NAME`: a wrapper folder to start from."""

import argparse
from pathlib import Path

from gateway.cli.error import CommandError
from gateway.source import check_name

TEMPLATE = '''\
"""The wrapper {name}: `POST /{name}/run` calls its `run_api`."""

from gateway import BasePipelineWrapper


class PipelineWrapper(BasePipelineWrapper):
    def setup(self) -> None:
        # Runs once, before the first request. Build what is slow to build here, for example:
        #     self.pipeline = Pipeline.loads((Path(__file__).parent / "pipeline.yml").read_text())
        pass

    # Parameters and annotations are the contract: they are validated, and described in `GET /{name}/schema`.
    def run_api(self, name: str = "World") -> str:
        """Greet somebody.

        Args:
            name: Whom to greet.
        """
        # With a pipeline: return self.pipeline.run({{"prompt": {{"name": name}}}})["llm"]["replies"][0]
        return f"Hello, {{name}}!"
'''


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="its name: letters, digits, - and _, 64 at the most")
    parser.add_argument(
        "--dir", type=Path, default=Path("wrappers"), help="the folder of wrapper folders (default: wrappers)"
    )


def main(args: argparse.Namespace) -> int:
    fault = check_name(args.name)
    if fault:
        raise CommandError(fault)
    folder = args.dir / args.name
    file = folder / "pipeline_wrapper.py"
    try:
        args.dir.mkdir(parents=True, exist_ok=True)
        folder.mkdir()
        file.write_text(TEMPLATE.format(name=args.name), encoding="utf-8")
    except FileExistsError as error:
        raise CommandError(f"{error.filename} exists already") from None
    except OSError as error:
        raise CommandError(f"cannot write {error.filename}: {error.strerror}") from None
    place = "" if args.dir == Path("wrappers") else f" --wrappers-dir {args.dir}"
    print(f"wrote {file}; to try it:")
    print(f"  {args.prog} run{place}")
    print(f"  {args.prog} pipeline run {args.name} --param name=Ada")
    return 0
