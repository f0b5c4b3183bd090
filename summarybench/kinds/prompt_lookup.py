"""Loaders that decode with prompt lookup, beside plain decoding with the same weights."""

from __future__ import annotations

from collections.abc import Sequence

from summarybench.catalogue.models import LOADERS, Experiment, lookup_experiments
from summarybench.engines.loaded_model import LoadedModel
from summarybench.engines.lookup import LookupEngine, open_lookup
from summarybench.kinds.kind import Case, Kind, Marker, cases_of
from summarybench.kinds.toolbox import Measurement, Toolbox
from summarybench.measure.generation import Measured, translate_device_errors
from summarybench.measure.lookup import (
    Lookup,
    PlainSummary,
    compare_with_plain,
    dtype_of,
    plain_summaries,
    tie_spacings,
)
from summarybench.measure.sample import Sample
from summarybench.runs.kind_facts import KindFacts, KindFigure

FIGURES = (
    KindFigure(
        key="lookup.tokens_per_step",
        name="Tokens per step",
        heading="tokens per step",
        short="tokens\n/ step",
        unit="",
        format=".2f",
        higher_is_better=True,
        meaning="Tokens that did not arrive with the first token ÷ forward passes that gave them; plain decoding has 1.",
    ),
    KindFigure(
        key="lookup.accepted_share",
        name="Accepted drafts",
        heading="accepted drafts",
        short="accepted\ndrafts",
        unit="",
        format=".3f",
        higher_is_better=True,
        meaning="Tokens beyond one per step ÷ drafted tokens.",
    ),
    KindFigure(
        key="lookup.step_cost",
        name="Seconds of a step ÷ those of a plain step",
        heading="× plain step",
        short="× plain\nstep",
        unit="",
        format=".2f",
        higher_is_better=False,
        meaning="Seconds of a step that verifies drafts ÷ those of a step of plain decoding, in the same session. "
        "Drafts help where this is below the tokens per step.",
    ),
    KindFigure(
        key="lookup.ratio",
        name="Speed ÷ that of plain decoding",
        heading="× plain speed",
        short="× plain\nspeed",
        unit="",
        format=".3f",
        higher_is_better=True,
        meaning="Generated tokens per second ÷ those of plain decoding with the same weights in the same session.",
    ),
    KindFigure(
        key="lookup.agreement.equal_summaries",
        name="Summaries equal to plain decoding's",
        heading="equal summaries",
        short="equal\nsummaries",
        unit="",
        format="d",
        higher_is_better=True,
        meaning="The number of summaries with the same tokens as those of plain decoding.",
    ),
    KindFigure(
        key="lookup.largest_tie",
        name="Largest difference between two logits of a tie",
        heading="largest tie",
        short="largest\ntie",
        unit="",
        format=".3g",
        higher_is_better=False,
        meaning="Where two summaries first differ: the difference between the two logits, in spacings of the dtype at the "
        "size of the largest logit; 0 if none differ. Rounding explains at most 16.",
    ),
)


class PromptLookupKind(Kind):
    """One document is one timed round. Plain decoding summarizes the same documents just before, untimed by the rounds."""

    facts = KindFacts(name="prompt_lookup", title="prompt lookup", place=0, figures=FIGURES)
    marker = Marker(
        name="lookup",
        description="decoding with prompt lookup, beside plain decoding; runs when -m names it",
    )
    is_planned = True

    def cases(self) -> Sequence[Case]:
        return cases_of(lookup_experiments())

    def markers_of(self, experiment: Experiment) -> tuple[str, ...]:
        """The experiment's markers without `compiled`, which need not be named: -m lookup measures all ways."""
        return experiment.markers_but_compiled

    def measure(self, toolbox: Toolbox) -> Measurement:
        """The finding is a `Lookup`.

        Raises as `Kind.measure`, and UnavailableError where a compiled loader does not support the model.
        """
        loaded = toolbox.loaded_model()
        sample = toolbox.sample_for(loaded)
        draft_tokens = LOADERS[toolbox.experiment.loader].draft_tokens
        plain = summarized_plainly(toolbox, loaded, sample)
        loaded.resize(0)  # a compiled decoder holds a cache, and a layout of the weights that lookup replaces
        toolbox.device.release_memory()
        preparing = toolbox.generating(loaded, f"preparing {loaded.experiment.name}")
        with translate_device_errors(toolbox.device), preparing:
            engine = open_lookup(loaded, draft_tokens, sample.longest_sequence)
        measured = toolbox.measure(loaded, sample, model=engine)
        found = beside_plain(toolbox, loaded, sample, measured, engine, plain)
        replaced = found.replaced_figures(loaded, toolbox.copy_bandwidth)
        return toolbox.measurement(
            loaded, sample, measured, extra_info={**replaced, "lookup": found.as_extra_info()}, finding=found
        )


def summarized_plainly(toolbox: Toolbox, loaded: LoadedModel, sample: Sample) -> list[PlainSummary]:
    """The summaries by plain decoding. Raises as `Kind.measure`."""
    with translate_device_errors(toolbox.device), toolbox.generating(loaded, "plain decoding"):
        return plain_summaries(loaded, sample.prompts, sample.max_new_tokens, toolbox.clock)


def beside_plain(
    toolbox: Toolbox,
    loaded: LoadedModel,
    sample: Sample,
    measured: Measured,
    engine: LookupEngine,
    plain: Sequence[PlainSummary],
) -> Lookup:
    """Compare what the engine has generated with plain decoding, and examine the summaries that differ."""
    tokens = [each.tokens for each in plain]
    with translate_device_errors(toolbox.device), toolbox.generating(loaded, "first differences"):
        spacings = tie_spacings(loaded, sample.prompts, engine.summaries, tokens, dtype_of(loaded.settings))
    draft_tokens = LOADERS[toolbox.experiment.loader].draft_tokens
    return compare_with_plain(draft_tokens, measured.records, engine.summaries, engine.counts, plain, spacings)
