"""The report of `--dry-run`: a table of experiments with their memory and time."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from summarybench.catalogue.models import Experiment
from summarybench.core.numbers import counted, duration, gib
from summarybench.report.console import Grid, console_on, tables_that_fit, without_trailing_blanks

COLUMNS = ("docs", "memory GiB", "expected time", "as in run")


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreseen:
    """One experiment that a session would measure.

    `seconds` is None where no run of this device has the experiment with this workload; `origin` names the run that has it.
    `needed_bytes` is 0 where no memory is predicted. `obstacle` says why the model cannot be loaded, empty for no known reason.
    """

    experiment: Experiment
    documents: int
    needed_bytes: int
    memory_bytes: int
    seconds: float | None
    origin: str
    obstacle: str = ""

    @property
    def fits(self) -> bool:
        return self.needed_bytes <= self.memory_bytes


def dry_run_report(
    foreseen: Sequence[Foreseen], *, width: int, color: bool, counts_process_memory: bool = False
) -> str:
    """The table and one line per note, `width` columns wide.

    `counts_process_memory` says that measured peaks contain Python and its libraries, which predictions leave out.
    """
    screen = io.StringIO()
    console = console_on(screen, width=width, color=color)

    rows = [(_names(each.experiment), _cells(each)) for each in foreseen]
    console.print(*tables_that_fit(console, [Grid(title="Dry run: nothing is measured", headings=COLUMNS, rows=rows)]))
    console.print()
    for line in _notes(foreseen, counts_process_memory=counts_process_memory):
        console.print(line, soft_wrap=True)
    return without_trailing_blanks(screen.getvalue())


def _names(experiment: Experiment) -> dict[str, str]:
    return {"experiment": experiment.name, "model": experiment.model, "loader": experiment.loader}


def _cells(each: Foreseen) -> list[str]:
    memory = gib(each.needed_bytes) if each.needed_bytes else "–"
    if not each.fits:
        return [str(each.documents), f"{memory}, too much", "–", "–"]
    return [str(each.documents), memory, "–" if each.seconds is None else duration(each.seconds), each.origin or "–"]


def _notes(foreseen: Sequence[Foreseen], *, counts_process_memory: bool) -> Iterator[str]:
    yield from dict.fromkeys(
        f"{each.experiment.model}: unavailable: {each.obstacle}" for each in foreseen if each.obstacle
    )
    foreseen = [each for each in foreseen if not each.obstacle]
    if not foreseen:
        return
    fitting = [each for each in foreseen if each.fits]
    beside = ", beside Python and its libraries" if counts_process_memory else ""
    yield f"memory: predicted peak{beside}; this device has {gib(foreseen[0].memory_bytes)} GiB"
    if excess := len(foreseen) - len(fitting):
        yield f"{counted(excess, 'experiment')} would be reported as out_of_memory and would not run"
    known = [each.seconds for each in fitting if each.seconds is not None]
    if known:
        yield f"time: {duration(sum(known))} for {counted(known, 'experiment')}, without starting and downloading"
    if unknown := len(fitting) - len(known):
        yield (
            f"time: unknown for {counted(unknown, 'experiment')}: this device has no earlier run of the same work; the session "
            "estimates the time after the warm-up"
        )
