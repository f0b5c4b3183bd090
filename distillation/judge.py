"""`python -m distillation.judge RUN`: compare students with their teachers."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from summarybench.core.exit_codes import run_to_exit_code
from summarybench.core.invocation import this_invocation
from summarybench.core.outcomes import ExitCode
from summarybench.core.paths import user_path


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table of a run as markdown, and return the exit code.

    The table is also written to students.md in the run's folder.
    """
    return run_to_exit_code(lambda: _judge(arguments))


def _judge(arguments: Sequence[str] | None) -> int:
    # These read the catalogue's tables, whose mistakes are errors of this command.
    from distillation.judgement import judge_run
    from summarybench.commands.command import Parser
    from summarybench.session.settings import model_paths_of

    program = this_invocation().program("distillation.judge")
    parser = Parser(
        prog=program, description="Compare the students of a run with their teachers, and check the targets."
    )
    parser.add_argument(
        "run",
        type=user_path,
        nargs="?",
        default=Path("results/latest"),
        help="a results folder (default: results/latest)",
    )
    parser.add_argument(
        "--model-path", action="append", default=[], metavar="NAME=FOLDER", help="load the teacher from a local folder"
    )
    options = parser.parse_args(arguments)
    print(judge_run(options.run, model_paths_of(options.model_path)), end="")
    return ExitCode.CLEAN


if __name__ == "__main__":
    sys.exit(main())
