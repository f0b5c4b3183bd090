"""One distillation, from the command line to the student."""

from __future__ import annotations

import os
from collections.abc import Sequence

from distillation.context import Context, say
from distillation.layers import check_layers
from distillation.loading import find_teacher
from distillation.options import parse_settings
from distillation.pipeline import Distillation
from distillation.settings import DistillSettings
from distillation.steps import check_out_folder
from distillation.student import check_starting_model
from distillation.training_documents import draw_documents
from summarybench.core.outcomes import ExitCode
from summarybench.engines.loading import quiet_libraries
from summarybench.machine.detection import detect_device, leave_one_gpu_visible


def distil(arguments: Sequence[str] | None, *, is_first: bool) -> int:
    """Parse the command line, run the steps and return the exit code.

    `is_first` says that this process prints. Raises SuiteError, and KeyboardInterrupt with the remedy.
    """
    settings = parse_settings(arguments)
    if not os.environ.get("WORLD_SIZE"):
        leave_one_gpu_visible(0)  # the Trainer would spread one process over all GPUs, and change its batches
    try:
        run(settings, is_first=is_first)
    except KeyboardInterrupt as interruption:
        if interruption.args:
            raise
        raise KeyboardInterrupt("interrupted; run the same command again to continue") from None
    return ExitCode.CLEAN


def run(settings: DistillSettings, *, is_first: bool) -> None:
    """Check the input, then do the steps that are not done yet. Raises SuiteError."""
    check_out_folder(settings.out)
    drawn = draw_documents(settings)
    quiet_libraries(show_progress=False)
    teacher = find_teacher(settings.teacher, settings.model_paths)
    if settings.layers is not None:
        check_layers(teacher, settings.layers)
    if settings.student_from is not None:
        check_starting_model(settings.student_from, teacher)
    device = detect_device()
    if settings.plan:
        from distillation.plan import print_plan

        print_plan(settings, teacher, drawn, device)
        return
    from accelerate import PartialState

    state = PartialState(cpu=device.is_host)
    if is_first and settings.documents and len(drawn.all) < settings.documents:
        say(f"--documents {settings.documents}: using the {len(drawn.all)} documents in the train half of the sources")
    Distillation(Context(settings=settings, teacher=teacher, drawn=drawn, device=device, state=state)).run()
    state.destroy_process_group()
