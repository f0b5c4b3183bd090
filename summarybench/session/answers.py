"""Answers in place of measuring, for --plan, --dry-run and --show-prompt."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from summarybench.core.outcomes import InputError
from summarybench.kinds.kind import Kind
from summarybench.kinds.registry import KINDS
from summarybench.report.dry_run import dry_run_report
from summarybench.report.plan import plan_report
from summarybench.runs.profile_record import describe_profile
from summarybench.session.config import Config
from summarybench.session.dry_run import dry_run
from summarybench.session.launch import command_for
from summarybench.session.opening import Selection
from summarybench.session.plan import plan
from summarybench.session.progress import Progress
from summarybench.session.shown_prompts import first_prompts

Answer = Callable[[int, bool], str]
"""The text to print, from the width of the terminal in columns and whether it has colours."""


def is_asked(option: Any) -> bool:
    """Whether parsed options ask for an answer, so that nothing is to be measured."""
    return bool(option.plan or option.dry_run or option.show_prompt)


def _question(option: Any) -> str:
    """The option that asks."""
    return "--plan" if option.plan else "--dry-run" if option.dry_run else "--show-prompt"


def answer_to(
    option: Any, selection: Selection, kinds: Mapping[str, Kind], config: Config, progress: Progress
) -> Answer:
    """What the parsed options ask about the selected tests, what was chosen for this CPU, and the profile.

    `kinds` has the kind of each test by nodeid.

    Raises InputError for documents or baselines that cannot be used, and where no selected test can run.
    """
    answer = _answer_to(option, selection, kinds, config, progress)
    profile = config.settings.profile
    notes = (config.choices, describe_profile(profile.as_record()) if profile else "")
    below = "".join(f"{note}\n" for note in notes if note)
    return lambda width, color: answer(width, color) + below


def _answer_to(
    option: Any, selection: Selection, kinds: Mapping[str, Kind], config: Config, progress: Progress
) -> Answer:
    runnable = selection.runnable
    if not runnable and selection.skip_reasons:
        raise InputError(f"none of the selected experiments can be measured: {'; '.join(selection.skip_reasons)}")
    if not runnable:
        skipped = ", ".join(sorted({each.name for each in selection.skipped.values()}))
        raise InputError(
            f"none of the selected experiments is for this device, {config.device} ({skipped}); for this device, use: "
            f"{command_for(config.device, option.markexpr, _question(option))}"
        )
    if option.show_prompt:
        prompts = "\n".join(first_prompts(runnable.values(), config, progress))
        return lambda _width, _color: f"{prompts}\n"
    if option.dry_run:
        foreseen = dry_run(runnable, config, progress)
        counts = config.device.counts_process_memory
        return lambda width, color: dry_run_report(foreseen, width=width, color=color, counts_process_memory=counts)
    planned = plan({nodeid: each for nodeid, each in runnable.items() if kinds[nodeid].is_planned}, config, progress)
    unplanned = [kind.facts.full_title for kind in KINDS.values() if not kind.is_planned]
    return lambda width, color: plan_report(planned, unplanned_kinds=unplanned, width=width, color=color)
