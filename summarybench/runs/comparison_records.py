"""What a run file states about comparisons: with the baseline, the anchor, the first pass and a student's teacher."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Annotated, Any, NotRequired, TypedDict

from summarybench.core.outcomes import Cause, QualityVerdict, Verdict
from summarybench.runs.declared_keys import SMALLEST_POSITIVE, Key


def _listed(words: type[StrEnum]) -> str:
    return ", ".join(f"`{each}`" for each in words)


class ProbeRecord(TypedDict):
    """One machine probe, measured before and after the experiment."""

    before: Annotated[float, Key("rate before the experiment", unit="1/s", at_least=SMALLEST_POSITIVE)]
    after: Annotated[float, Key("rate after the experiment", unit="1/s", at_least=SMALLEST_POSITIVE)]
    standard_deviation: Annotated[float, Key("relative standard deviation of the repetitions; the larger of the two")]
    work: NotRequired[Annotated[float, Key("amount that one repetition does; unknown if absent")]]
    beat_work: NotRequired[
        Annotated[float, Key("amount that one host probe sample before a round does; unknown if absent")]
    ]


class AttributionRecord(TypedDict):
    """What a change of speed is attributed to."""

    cause: Annotated[str, Key("the cause", choices=Cause)]
    detail: Annotated[str, Key("the figures that point to the cause")]


class NoiseRecord(TypedDict):
    """What one part of the noise adds to a comparison."""

    between: Annotated[str, Key("what it is between: `processes`, `nights` or `hosts`")]
    variance: Annotated[float, Key("what it adds to the variance of log(ratio)")]
    degrees_of_freedom: Annotated[float, Key("its degrees of freedom", at_least=SMALLEST_POSITIVE)]
    is_measured: Annotated[bool, Key("whether it was measured, and not assumed")]


class ChangeRecord(TypedDict):
    """A speed against the baseline's, at the baseline's output lengths."""

    ratio: Annotated[float, Key("this run ÷ the baseline", at_least=SMALLEST_POSITIVE)]
    low: Annotated[float, Key("lower bound of the ratio")]
    high: Annotated[float, Key("upper bound of the ratio", at_most=math.inf)]
    confidence: Annotated[float, Key("confidence of the interval", at_most=1)]
    p_value: Annotated[float, Key("p-value of a slowdown, one-sided", at_most=1)]
    documents: Annotated[int, Key("rounds in common that were paired")]
    baseline_runs: Annotated[int, Key("stored runs that were pooled")]
    passes: Annotated[int, Key("passes of this session that were pooled")]
    pass_ratios: NotRequired[Annotated[list[float], Key("ratio of each pass alone; absent for a single pass")]]
    noise: NotRequired[Annotated[list[NoiseRecord], Key("the noise in the interval, by part; absent in older runs")]]
    length_effect: NotRequired[
        Annotated[
            float, Key("measured ratio ÷ `ratio`; absent if the outputs have equal lengths", "", SMALLEST_POSITIVE)
        ]
    ]


class JudgementRecord(ChangeRecord):
    """The time to the first token, or decoding, as a speed against the baseline's. Below 1 is slower."""

    verdict: Annotated[str, Key(f"the verdict on it, such as {_listed(Verdict)}")]
    verdict_detail: Annotated[str, Key("the verdict's figures and what to do next")]
    attribution: Annotated[AttributionRecord | None, Key("what the change is attributed to; null without a change")]


class BaselineRecord(TypedDict):
    """What the experiment was compared with."""

    file: Annotated[str, Key("file name of the newest stored run")]
    run: Annotated[str, Key("name of that run in reports")]
    commit: Annotated[str, Key("commit of that run")]
    runs: Annotated[list[str], Key("file names of all stored runs that were pooled, newest first")]


class McNemarRecord(TypedDict):
    """McNemar's exact test on one kind of degenerate output."""

    more: Annotated[int, Key("documents that became degenerate")]
    fewer: Annotated[int, Key("documents that are no longer degenerate")]
    p_value: Annotated[float, Key("one-sided p-value", at_most=1)]


class QualityChangeRecord(TypedDict):
    """ROUGE-1 and degenerate outputs against another run or loader, paired by document."""

    verdict: Annotated[str, Key(f"the verdict on ROUGE-1, such as {_listed(QualityVerdict)}")]
    mean: Annotated[float, Key("mean difference of ROUGE-1 F1, this − other", at_least=-1, at_most=1)]
    low: Annotated[float, Key("lower bound of the mean", at_least=None)]
    high: Annotated[float, Key("upper bound of the mean", at_least=None)]
    confidence: Annotated[float, Key("confidence of the interval", at_most=1)]
    documents: Annotated[int, Key("documents that were paired")]
    documents_needed: Annotated[int | None, Key("documents that would decide; null if none would, or it is decided")]
    changed_summaries: Annotated[int, Key("documents whose summaries differ")]
    mcnemar: Annotated[dict[str, McNemarRecord] | None, Key("by kind of degenerate output; null if not comparable")]
    baseline: Annotated[str, Key("the run or loader that was compared with")]
    p_value: NotRequired[Annotated[float, Key("p-value of a loss of ROUGE-1, one-sided", at_most=1)]]
    margin: NotRequired[Annotated[float, Key("loss of ROUGE-1 F1 that counts as none")]]
    level: NotRequired[
        Annotated[float, Key("largest p-value that fails before all comparisons of the session are known", at_most=1)]
    ]


class NovelChangeRecord(TypedDict):
    """Summaries with new numbers, dates or names against another run's, paired by document."""

    verdict: Annotated[str, Key(f"the verdict, such as {_listed(QualityVerdict)}")]
    before: Annotated[int, Key("summaries of the other run that had some")]
    more: Annotated[int, Key("documents whose summary has some only now")]
    fewer: Annotated[int, Key("documents whose summary had some only before")]
    documents: Annotated[int, Key("documents that were paired", at_least=1)]
    mean: Annotated[float, Key("(`more` − `fewer`) ÷ `documents`", at_least=-1, at_most=1)]
    low: Annotated[float, Key("lower bound of the mean", at_least=-1, at_most=1)]
    high: Annotated[float, Key("upper bound of the mean", at_least=-1, at_most=1)]
    p_value: Annotated[float, Key("one-sided p-value of McNemar's exact test", at_most=1)]


class NovelShareRecord(TypedDict):
    """A share of new words against another run's, paired by document; it never fails."""

    verdict: Annotated[str, Key(f"the verdict, such as {_listed(QualityVerdict)}")]
    mean: Annotated[float, Key("mean difference of the share, this − other", at_least=-1, at_most=1)]
    low: Annotated[float, Key("lower bound of the mean", at_least=None)]
    high: Annotated[float, Key("upper bound of the mean", at_least=None)]
    documents: Annotated[int, Key("documents that were paired")]


class FaithfulnessChangeRecord(TypedDict):
    """What is new in summaries and not in their documents, against another run, paired by document."""

    verdict: Annotated[str, Key(f"the worst verdict of `counted`, such as {_listed(QualityVerdict)}")]
    baseline: Annotated[str, Key("the run or experiment that this one was compared with")]
    changed_summaries: Annotated[int, Key("documents whose summaries differ")]
    confidence: Annotated[float, Key("confidence of the intervals", at_most=1)]
    margin: Annotated[float, Key("net share of summaries that counts as none", at_most=1)]
    level: Annotated[
        float, Key("largest p-value that fails before all comparisons of the session are known", at_most=1)
    ]
    counted: Annotated[
        dict[str, NovelChangeRecord],
        Key("by `novel_numbers`, `novel_dates` and `novel_names`; without what is unknown"),
    ]
    shares: Annotated[
        dict[str, NovelShareRecord], Key("by `novel_words`, `novel_bigrams` and `novel_trigrams`, likewise")
    ]


class AnchorRecord(ChangeRecord):
    """The change against the anchor, which is never replaced."""

    file: Annotated[str, Key("the anchor's file name")]
    commit: Annotated[str, Key("the anchor's commit")]
    verdict: Annotated[str, Key(f"the verdict against the anchor, such as {_listed(Verdict)}")]
    attribution: NotRequired[
        Annotated[
            AttributionRecord | None, Key("what the change is attributed to; null without one, absent in older runs")
        ]
    ]
    quality_change: NotRequired[
        Annotated[QualityChangeRecord | None, Key("quality against the anchor's; null if it was not compared")]
    ]
    faithfulness_change: NotRequired[
        Annotated[FaithfulnessChangeRecord | None, Key("faithfulness against the anchor's; null if not compared")]
    ]


class FirstPassRecord(TypedDict):
    """What the first pass measured of an experiment that a second pass measured again."""

    run: Annotated[str, Key("name of the first pass's results folder")]
    verdict: Annotated[str, Key(f"the first pass's verdict, such as {_listed(Verdict)}")]
    verdict_detail: Annotated[str, Key("the verdict's figures")]
    change: Annotated[ChangeRecord | None, Key("the first pass's change")]
    attribution: Annotated[AttributionRecord | None, Key("the first pass's attribution")]
    document_ids: Annotated[list[str], Key("ids of its documents")]
    batch_document_ids: Annotated[list[list[str]] | None, Key("ids of the documents of each batch")]
    generated_tokens: Annotated[list[int], Key("tokens of each summary", unit="tokens")]
    time_to_first_token_seconds: Annotated[list[float], Key("time to first token of each document", unit="s")]
    generated_tokens_per_second: Annotated[float, Key("its throughput", unit="tokens/s")]
    controls: Annotated[dict[str, ProbeRecord], Key("its machine probes")]
    seconds: Annotated[list[float], Key("duration of each round", unit="s", at_least=SMALLEST_POSITIVE)]


class RatioInterval(TypedDict):
    """A ratio with its 95% interval."""

    ratio: Annotated[float, Key("the ratio")]
    low: Annotated[float, Key("lower bound")]
    high: Annotated[float, Key("upper bound", at_most=math.inf)]


class TeacherChangeRecord(TypedDict):
    """A student beside its teacher, with the same loader and in the same session."""

    teacher: Annotated[str, Key("the teacher's experiment")]
    generated_tokens_per_second: Annotated[RatioInterval, Key("throughput, student ÷ teacher")]
    weights_ratio: Annotated[float, Key("weights in memory, student ÷ teacher")]
    peak_memory_ratio: Annotated[float, Key("peak memory, student ÷ teacher")]
    rouge1_ratio: Annotated[float | None, Key("mean ROUGE-1, student ÷ teacher")]
    margin: Annotated[float | None, Key("loss of ROUGE-1 F1 that counts as none")]
    quality_change: Annotated[QualityChangeRecord | None, Key("quality against the teacher's")]
    seconds_ratio: NotRequired[
        Annotated[
            float,
            Key(
                "seconds per document, student ÷ teacher; absent in older runs, like the next two keys",
                at_least=SMALLEST_POSITIVE,
            ),
        ]
    ]
    length_ratio: NotRequired[
        Annotated[float | None, Key("characters of the summaries, student ÷ teacher; null if the teacher's are empty")]
    ]
    faithfulness_change: NotRequired[
        Annotated[FaithfulnessChangeRecord | None, Key("faithfulness against the teacher's; null if not compared")]
    ]


class Decision(TypedDict):
    """What was decided about an experiment, and against what."""

    verdict: Annotated[str, Key(f"the verdict against the baseline, such as {_listed(Verdict)}")]
    verdict_detail: Annotated[str, Key("the verdict's figures and what to do next")]
    baseline: Annotated[BaselineRecord | None, Key("what the experiment was compared with")]
    change: Annotated[ChangeRecord | None, Key("the change against the baseline; null if none was computed")]
    first_token_change: Annotated[
        JudgementRecord | None, Key("the change of the time to the first token; null if it was not judged")
    ]
    decode_change: Annotated[JudgementRecord | None, Key("the change of decoding; null if it was not judged")]
    attribution: Annotated[AttributionRecord | None, Key("what the change is attributed to; null without a change")]
    anchor: Annotated[AnchorRecord | None, Key("the change against the anchor; null without one")]
    environment_differences: Annotated[list[str], Key("versions and kernels that differ from the baseline's, in words")]
    quality_change: Annotated[
        QualityChangeRecord | None, Key("quality against the baseline's; null if it was not compared")
    ]
    faithfulness_change: Annotated[
        FaithfulnessChangeRecord | None, Key("faithfulness against the baseline's; null if it was not compared")
    ]


class HistoryRecord(TypedDict):
    """The series of stored nights that this run continues: same test, workload, documents and host."""

    trend: Annotated[str, Key("what the series shows: `SLOWED`, `FASTER`, `STEADY`, or `COLLECTING` nights")]
    host: Annotated[str, Key("the host of the series")]
    nights: Annotated[int, Key("nights of the series, this run's counted")]
    reference_nights: Annotated[int, Key("nights that are its reference; 0 while collecting")]
    reference_tokens_per_second: Annotated[float | None, Key("the reference's speed; null while collecting")]
    standard_deviation: Annotated[float | None, Key("relative deviation of one night; null while collecting")]
    ratio: Annotated[float | None, Key("speed since the change, or of all tested nights, ÷ the reference's")]
    since: Annotated[str | None, Key("first night of the change; null without one")]
    commits: Annotated[list[str] | None, Key("commits of the last night before the change and of the first with it")]


class HistoryKeys(TypedDict):
    """What the stored nights say of the experiment."""

    history: NotRequired[
        Annotated[
            HistoryRecord | None, Key("its series of nights; null if the run does not count, absent in older runs")
        ]
    ]


class Confirmation(TypedDict):
    """What the first pass measured, if this is the second."""

    first_pass: Annotated[FirstPassRecord | None, Key("what the first pass measured; null without a second pass")]


class StudentKeys(TypedDict):
    """What the experiments of students have on top."""

    teacher: NotRequired[Annotated[str, Key("a student's teacher")]]
    student_provenance: NotRequired[Annotated[dict[str, Any], Key("how the student was made")]]
    teacher_change: NotRequired[
        Annotated[TeacherChangeRecord | None, Key("a student beside its teacher; null if that was not measured")]
    ]
