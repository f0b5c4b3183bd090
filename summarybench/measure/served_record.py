"""What the rounds of a served model have shown, as the run file keeps it."""

from __future__ import annotations

from collections.abc import Sequence
from math import fsum

from summarybench.core.outcomes import RequestsFailedError
from summarybench.documents.prompts import Prompt
from summarybench.engines.server.served_model import ServedModel
from summarybench.measure.load import (
    Arrivals,
    Concurrency,
    Failure,
    Load,
    LoadFigures,
    Objective,
    Percentiles,
    answered_of,
    figures_of,
)
from summarybench.measure.rate_search import RateStep, search_rate
from summarybench.measure.serving import Round, pass_over, why_failed
from summarybench.runs.journal import Record
from summarybench.runs.kind_records import (
    FleetRecord,
    ObjectiveRecord,
    PercentilesRecord,
    RateSearchRecord,
    RateStepRecord,
    ServedRecord,
)

ALONE_PASSES = 2
"""How often the first server of a fleet gets its part of the documents alone."""
UNKNOWN = Percentiles(p50=None, p90=None, p99=None)


def served_extra_info(
    model: ServedModel,
    prompts: Sequence[Prompt],
    rounds: Sequence[Round],
    load: Load,
    objective: Objective | None,
) -> Record:
    """The keys of a run file that are figures of whole rounds. They replace or add to the keys of other kinds."""
    found = figures_of(*(each.answers for each in rounds), objective=objective)
    document_tokens = sum(
        prompt.document_tokens
        for each in rounds
        for prompt, answer in zip(prompts, each.answers, strict=True)
        if not isinstance(answer, Failure)
    )
    return {
        "generated_tokens_per_second": found.generated_tokens_per_second,
        "decode_tokens_per_second": None,
        "document_tokens_per_second": document_tokens / found.seconds,
        "documents_per_second": found.documents_per_second,
        "model_bandwidth_utilization": None,
        "sample_rounds": [{"seconds": each.seconds, "generated_tokens": each.generated_tokens} for each in rounds],
        "served": _served_record(model, prompts, rounds, load, found, objective),
    }


def _served_record(
    model: ServedModel,
    prompts: Sequence[Prompt],
    rounds: Sequence[Round],
    load: Load,
    found: LoadFigures,
    objective: Objective | None,
) -> ServedRecord:
    return {
        "engine": model.identity.engine,
        "engine_version": model.identity.version,
        "command": model.command,
        "requests": found.requests,
        "failed_requests": found.failed,
        "first_failure": next((why_failed(each.answers, model) for each in rounds if each.failures), None),
        "resent_requests": sum(each.is_resent for a_round in rounds for each in a_round.completions),
        "concurrency": load.in_flight if isinstance(load, Concurrency) else None,
        "arrivals_per_second": load.per_second if isinstance(load, Arrivals) else None,
        "time_to_first_token_seconds": _percentiles(found.first_token),
        "seconds_per_output_token": _percentiles(found.per_later_token),
        "end_to_end_seconds": _percentiles(found.end_to_end),
        "mean_in_flight": found.mean_in_flight,
        "goodput_per_second": found.goodput_per_second,
        "within_objective": found.objective_share,
        "objective": None if objective is None else _objective(objective),
        "cached_prompt_tokens": sum(each.cached_tokens for a_round in rounds for each in a_round.completions),
        "prompts_counted_otherwise": _counted_otherwise(model, prompts, rounds[0]),
        "changed_summaries": sum(_changed(each, rounds[0]) for each in rounds),
        "client_cpu_share": fsum(each.client_cpu_seconds for each in rounds) / found.seconds,
    }


def _percentiles(found: Percentiles) -> PercentilesRecord:
    return {"p50": found.p50, "p90": found.p90, "p99": found.p99}


def _objective(objective: Objective) -> ObjectiveRecord:
    return {
        "name": objective.name,
        "first_token_seconds": objective.first_token_seconds,
        "seconds_per_token": objective.seconds_per_token,
    }


def rate_search_record(
    model: ServedModel, prompts: Sequence[Prompt], max_new_tokens: int, saturated: float, objective: Objective
) -> RateSearchRecord:
    """Search the greatest rate within the objective, below the rate at which all requests at once were answered."""

    def at_rate(load: Arrivals) -> RateStep:
        answers = pass_over(model, prompts, load, max_new_tokens)
        return RateStep(
            arrivals_per_second=load.per_second,
            figures=figures_of(answers, objective=objective) if answered_of(answers) else None,
            first_failure=why_failed(answers, model),
        )

    found = search_rate(at_rate, saturated)
    return {
        "saturated_documents_per_second": saturated,
        "greatest_rate_per_second": found.greatest_rate,
        "steps": [_rate_step(each) for each in found.steps],
    }


def _rate_step(step: RateStep) -> RateStepRecord:
    found = step.figures
    return {
        "arrivals_per_second": step.arrivals_per_second,
        "documents_per_second": found.documents_per_second if found else 0.0,
        "within_objective": (found.objective_share or 0.0) if found else 0.0,
        "is_within": step.is_within,
        "first_failure": step.first_failure,
        "time_to_first_token_seconds": _percentiles(found.first_token if found else UNKNOWN),
        "seconds_per_output_token": _percentiles(found.per_later_token if found else UNKNOWN),
    }


def fleet_record(
    model: ServedModel, prompts: Sequence[Prompt], load: Load, max_new_tokens: int, together: float
) -> FleetRecord:
    """The first server alone with its part of the sample and of the load. `together` are the documents/s of all.

    Raises RequestsFailedError where the server answers no request of a pass.
    """
    servers = len(model.target.addresses)
    part = list(prompts)[::servers]
    passes = []
    for _ in range(ALONE_PASSES):
        answers = pass_over(model, part, load.divided_by(servers), max_new_tokens, server=0)
        if not answered_of(answers):
            raise RequestsFailedError(
                f"all {len(answers)} requests to the fleet's first server alone failed: {why_failed(answers, model)}"
            )
        passes.append(answers)
    alone = figures_of(*passes)
    return {
        "servers": servers,
        "documents_per_second_alone": alone.documents_per_second,
        "scaling_efficiency": together / servers / alone.documents_per_second,
    }


def _counted_otherwise(model: ServedModel, prompts: Sequence[Prompt], first: Round) -> int | None:
    """How many prompts the server counts differently from our tokenizer; None without a tokenizer.

    The prompts of documents that are read in several calls are left out: those after the first depend on its answer.
    """
    found = [
        model.counts_prompt_as_we_do(prompt, each)
        for prompt, each in zip(prompts, first.answers, strict=True)
        if not isinstance(each, Failure) and prompt.reading is None
    ]
    return None if None in found else found.count(False)


def _changed(now: Round, first: Round) -> int:
    pairs = zip(now.answers, first.answers, strict=True)
    return sum(
        one.text != other.text
        for one, other in pairs
        if not isinstance(one, Failure) and not isinstance(other, Failure)
    )


def assert_all_answered(served: ServedRecord) -> None:
    """Fail where a request failed: figures of the others alone would flatter a server that refuses work.

    The requests of a search are no reason: it looks for a rate that is too high. Raises RequestsFailedError.
    """
    if served["failed_requests"]:
        raise RequestsFailedError(
            f"{served['failed_requests']} of {served['requests']} requests failed: {served['first_failure']}"
        )
    if failure := served.get("fleet_failure"):
        raise RequestsFailedError(failure)
