"""A step in which the teacher, or an earlier student, writes texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distillation.card import DATA_SETTINGS
from distillation.context import Context, say
from distillation.steps import Steps
from distillation.summaries import PartWriter, Request, batches, describe_degenerate, join_parts
from summarybench.core.numbers import decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class TextStep:
    """A step that writes the texts of `requests` to the parquet file `output`.

    The file is in a folder that other students share.

    `requests` and `load_writer`, which take time, are called only if texts are missing. `title` says in the output what
    was written by whom. `keeps_repeating` says whether repeating texts become training examples.
    """

    name: str
    title: str
    inputs: Mapping[str, Any]
    output: Path
    requests: Callable[[], Sequence[Request]]
    load_writer: Callable[[], Any]
    keeps_repeating: bool = False

    def run(self, context: Context) -> None:
        """Write the missing texts in all processes, and print the counts in the first.

        Raises SuiteError.
        """
        steps = Steps(self.output.parent)
        is_new = context.in_all(steps, self.name, self.inputs, self.output, lambda path: self._make(context, path))
        if context.state.is_main_process:
            facts = steps.facts(self.name)
            degenerate = describe_degenerate(facts, are_kept=self.keeps_repeating)
            say(f"{'' if is_new else 'unchanged: '}{facts['asked']} {self.title}; {degenerate}")

    def _make(self, context: Context, path: Path) -> Mapping[str, Any]:
        writer = PartWriter(
            parts=batches(self.requests(), context.teacher_batch),
            folder=path.parent / "parts",
            decode=context.decode,
            temperature=context.settings.sampling_temperature,
            seed=context.settings.seed,
        )
        self._write_parts(context, writer)
        context.state.wait_for_everyone()
        if not context.state.is_main_process:
            return {}
        settings = {key: getattr(context.settings, key) for key in (*DATA_SETTINGS, "seed")}
        provenance = {"teacher": {**context.teacher.facts(), **settings}, "sources": context.drawn.sources}
        return join_parts(writer.folder, len(writer.parts), path, provenance)

    def _write_parts(self, context: Context, writer: PartWriter) -> None:
        from tqdm import tqdm

        rank, processes = context.state.process_index, context.state.num_processes
        missing = writer.missing(rank, processes)
        if not missing:
            return
        model = self.load_writer()
        own = len(range(rank, len(writer.parts), processes))
        hide = None if rank == 0 else True  # None: shown on a terminal only
        tokens = 0
        with tqdm(total=own, initial=own - len(missing), desc=self.name, disable=hide) as bar:

            def on_part(generated: int) -> None:
                nonlocal tokens
                tokens += generated
                bar.update()
                bar.set_postfix_str(f"{decimal(tokens / max(bar.format_dict['elapsed'], 1e-9), 0)} tok/s")

            writer.write(missing, model, context.device, on_part)
