"""Decoding with drafts beside plain decoding with the same weights: how many tokens does a step give, and are they the same?

Drafts come from prompt lookup or from a student. Both ways must generate the same tokens as plain decoding, because a step
keeps only the drafts that greedy decoding would have chosen. In half precision a forward pass over several tokens rounds
differently from one over a single token. Where two tokens are almost equally likely, that can decide which one is chosen,
and the rest of the summary with it. So the first difference of each pair is examined.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import fsum, inf
from typing import Protocol

from summarybench.core.numbers import counted, significant
from summarybench.core.outcomes import JudgementError
from summarybench.documents.prompts import Prompt
from summarybench.engines.engine import JsonScalar, LogitsEngine, TextGenerator, note_nothing
from summarybench.engines.lookup import LookupCounts
from summarybench.machine.clock import Clock
from summarybench.measure.fidelity import Agreement, Tokens, agreement_of, equal_from_the_start
from summarybench.measure.generation import GenerationRecord
from summarybench.runs.kind_records import LookupRecord

SPACING = {"float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
"""The distance between neighbouring numbers of a dtype ÷ the number."""
MOST_SPACINGS_OF_A_TIE = 16.0
"""Two logits are a tie if they differ by at most so many spacings of the dtype, at the size of the largest logit."""


class ReadBytes(Protocol):
    """What one forward pass of a model reads, in bytes: its weights, and the cache of each token before."""

    @property
    def weights_read_bytes(self) -> int: ...

    @property
    def cache_bytes_per_token(self) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainSummary:
    """A summary by plain greedy decoding: its tokens, the seconds it took, and those after its first token."""

    tokens: tuple[int, ...]
    seconds: float
    decode_seconds: float


def plain_summaries(
    model: TextGenerator, prompts: Sequence[Prompt], max_new_tokens: int, clock: Clock
) -> list[PlainSummary]:
    """Summarize each prompt by itself, after an untimed pass over the longest one."""
    longest = max(prompts, key=lambda prompt: len(prompt.token_ids))
    model.generate(model.prepare([longest.token_ids]), max_new_tokens, note_nothing)
    found = []
    for prompt in prompts:
        prepared = model.prepare([prompt.token_ids])
        first_token: list[float] = []
        start = clock()
        output = model.generate(prepared, max_new_tokens, lambda wait=None: first_token.append(clock(wait)))  # noqa: B023  (called at once)
        end = clock()
        (tokens,) = model.generated_ids(output, prepared)
        found.append(PlainSummary(tokens=tuple(tokens), seconds=end - start, decode_seconds=end - first_token[0]))
    return found


def tie_spacings(
    model: LogitsEngine, prompts: Sequence[Prompt], now: Sequence[Tokens], plain: Sequence[Tokens], dtype: str
) -> list[float]:
    """For each pair of summaries that differ: how far apart are the two tokens at the first difference?

    Their logits, computed by plain decoding, in spacings of the dtype at the size of the largest logit. Infinite where one
    summary ends before the first difference.
    """
    found = []
    for prompt, a, b in zip(prompts, now, plain, strict=True):
        here = equal_from_the_start(a, b)
        if here == len(a) == len(b):
            continue
        if here == min(len(a), len(b)):
            found.append(inf)
            continue
        logits = model.forced_logits(prompt.token_ids, b[: here + 1])[-1]
        gap = abs(float(logits[b[here]] - logits[a[here]]))
        found.append(gap / (float(logits.abs().max()) * SPACING[dtype]))
    return found


def dtype_of(settings: Mapping[str, JsonScalar]) -> str:
    """The dtype in which a loader with these settings computes."""
    return str(settings.get("compute_dtype", settings["dtype"]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup:
    """Decoding with drafts beside plain decoding, over the same documents in the same order.

    `spacings` has the result of `tie_spacings`.
    """

    draft_tokens: int
    records: tuple[GenerationRecord, ...]
    counts: tuple[LookupCounts, ...]
    plain: tuple[PlainSummary, ...]
    agreement: Agreement
    spacings: tuple[float, ...]

    @property
    def later_tokens(self) -> int:
        """The tokens that did not arrive together with the first one."""
        return sum(
            each.generated_tokens - its.first_tokens for each, its in zip(self.records, self.counts, strict=True)
        )

    @property
    def steps(self) -> int:
        return sum(each.steps for each in self.counts)

    @property
    def tokens_per_step(self) -> float | None:
        """None where no step was made."""
        return self.later_tokens / self.steps if self.steps else None

    @property
    def accepted_share(self) -> float | None:
        """Tokens beyond one per step ÷ drafted tokens; None where nothing was drafted."""
        drafted = sum(each.drafted for each in self.counts)
        return (self.later_tokens - self.steps) / drafted if drafted else None

    @property
    def decode_seconds(self) -> float:
        return fsum(record.decode_seconds for record in self.records)

    @property
    def ratio(self) -> float:
        """Generated tokens per second ÷ those of plain decoding."""
        now = sum(each.generated_tokens for each in self.records) / fsum(each.seconds for each in self.records)
        return now / self._plain_speed

    @property
    def _plain_speed(self) -> float:
        return sum(len(each.tokens) for each in self.plain) / fsum(each.seconds for each in self.plain)

    @property
    def step_cost(self) -> float | None:
        """Seconds of a step ÷ those of a plain step: drafts pay where this is below the tokens per step."""
        plain_steps = sum(len(each.tokens) - 1 for each in self.plain)
        plain_seconds = fsum(each.decode_seconds for each in self.plain)
        if not self.steps or not plain_steps or not plain_seconds:
            return None
        return (self.decode_seconds / self.steps) / (plain_seconds / plain_steps)

    def as_extra_info(self) -> LookupRecord:
        """The key `lookup` of the run file. Lists are in document order."""
        return {
            "draft_tokens": self.draft_tokens,
            "first_tokens": [each.first_tokens for each in self.counts],
            "steps": [each.steps for each in self.counts],
            "drafted_tokens": [each.drafted for each in self.counts],
            "tokens_per_step": self.tokens_per_step,
            "accepted_share": self.accepted_share,
            "plain_tokens_per_second": self._plain_speed,
            "ratio": self.ratio,
            "step_cost": self.step_cost,
            "agreement": asdict(self.agreement),  # type: ignore[typeddict-item]
            "largest_tie": max((each for each in self.spacings if each < inf), default=0.0),
        }

    def replaced_figures(
        self, model: ReadBytes, copy_bandwidth: float | None, student: ReadBytes | None = None
    ) -> dict[str, float | None]:
        """General figures of the run file that would otherwise count one token per step.

        A step is one forward pass of the model, and each draft of a student one of the student.
        """
        seconds = self.decode_seconds
        if not seconds or not self.steps:
            return {"decode_tokens_per_second": None, "model_bandwidth_utilization": None}
        read_bytes = self._bytes_of(model, [each.steps for each in self.counts])
        if student is not None:
            read_bytes += self._bytes_of(student, [each.drafted for each in self.counts])
        return {
            "decode_tokens_per_second": self.later_tokens / seconds,
            "model_bandwidth_utilization": read_bytes / seconds / copy_bandwidth if copy_bandwidth else None,
        }

    def _bytes_of(self, read: ReadBytes, passes: Sequence[int]) -> float:
        """The bytes that so many forward passes read for each document: all weights, and on average half the summary's cache."""
        cached_tokens = fsum(
            count * (each.prompt_tokens + each.generated_tokens / 2)
            for count, each in zip(passes, self.records, strict=True)
        )
        return read.weights_read_bytes * sum(passes) + read.cache_bytes_per_token * cached_tokens


def compare_with_plain(
    draft_tokens: int,
    records: Sequence[GenerationRecord],
    summaries: Sequence[Tokens],
    counts: Sequence[LookupCounts],
    plain: Sequence[PlainSummary],
    spacings: Sequence[float],
) -> Lookup:
    """Put both side by side. All sequences are in document order."""
    return Lookup(
        draft_tokens=draft_tokens,
        records=tuple(records),
        counts=tuple(counts),
        plain=tuple(plain),
        agreement=agreement_of(summaries, [each.tokens for each in plain]),
        spacings=tuple(spacings),
    )


def assert_decodes_greedily(lookup: Lookup) -> None:
    """Check that summaries differ from those of plain decoding by ties alone.

    Raises JudgementError where two tokens at a first difference are further apart.
    """
    if wrong := [each for each in lookup.spacings if each > MOST_SPACINGS_OF_A_TIE]:
        verb = "differs" if len(wrong) == 1 else "differ"
        raise JudgementError(
            f"{counted(wrong, 'summary', 'summaries')} of {lookup.agreement.documents} {verb} from those of plain decoding by more "
            f"than ties: at the first difference two logits are {significant(max(wrong), 3)} spacings of the dtype apart, and a tie "
            f"is at most {significant(MOST_SPACINGS_OF_A_TIE, 3)}; look at the verification in summarybench/engines"
        )
