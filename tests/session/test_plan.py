"""What a session will be able to detect: the power of the verdict's rule, and the plan that is made of it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.stats import nct, norm, t

from summarybench.analysis.device_noise import spread_of
from summarybench.analysis.planning import NoiseSource, Planned, are_kernels_kept, document_noise
from summarybench.catalogue.models import EXPERIMENTS
from summarybench.report.plan import plan_report
from summarybench.runs.run_file import entries_of
from summarybench.stats.changes import pooled_change
from summarybench.stats.decision import is_regressed
from summarybench.stats.power import CONFIRMED, POOLED, Design, Need, detection_probability, need, smallest_slowdown
from summarybench.stats.spread import Spread
from summarybench.stats.timings import Timing
from tests.conftest import FAKE_MODELS
from tests.known_noise import KnownNoise, write_replicates
from tests.run_files import benchmark, run_of

NOISY = Design(
    documents=20,
    document_deviation=0.4,
    spread=Spread(standard_deviation=0.08, degrees_of_freedom=4.0),
    baseline_runs=3,
    decisions=POOLED,
)
ONE_RUN = (1,)
KNOWN = replace(NOISY, document_deviation=0.0, spread=Spread(standard_deviation=0.06))


def with_spread(design, standard_deviation, degrees_of_freedom=None):
    return replace(design, spread=Spread(standard_deviation=standard_deviation, degrees_of_freedom=degrees_of_freedom))


# The power of the rule -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("log_ratio", [0.0, -0.1, -0.3, -0.6])
def test_a_single_decision_has_the_power_of_the_noncentral_t(log_ratio):
    document_variance = 0.4**2 / 20 * (1 / 3 + 1)
    run_variance = 0.08**2 * (1 / 3 + 1)
    error = math.sqrt(document_variance + run_variance)
    freedom = error**4 / (document_variance**2 / 19 + run_variance**2 / 4)
    expected = nct.cdf(-t.ppf(0.99, freedom), freedom, log_ratio / error)
    assert detection_probability(replace(NOISY, decisions=ONE_RUN), log_ratio) == pytest.approx(expected, abs=1e-4)


def power_of_two_passes(log_ratio, deviation, *, decides_first):
    """The exact power where the spread is known: the first pass integrated over, the second normal given the first."""
    one, two, shared = deviation**2 * (1 / 3 + 1), deviation**2 * (1 / 3 + 1 / 2), deviation**2 / 3
    threshold = math.log(0.985)
    quantile = norm.ppf(0.99)
    limit_of_both = min(threshold, -quantile * math.sqrt(two))
    limit_of_first = min(threshold, -quantile * math.sqrt(one)) if decides_first else threshold

    def density(first):
        most = min(threshold, 2 * limit_of_both - first)
        mean = log_ratio + shared / one * (first - log_ratio)
        given = norm.cdf(most, mean, math.sqrt(one - shared**2 / one))
        return norm.pdf(first, log_ratio, math.sqrt(one)) * given

    kink = 2 * limit_of_both - threshold
    return quad(density, log_ratio - 12 * math.sqrt(one), limit_of_first, points=[kink], limit=200)[0]


@pytest.mark.parametrize(("decisions", "decides_first"), [(CONFIRMED, True), (POOLED, False)])
@pytest.mark.parametrize(("log_ratio", "deviation"), [(-0.2, 0.06), (-0.05, 0.06), (-0.03, 0.008), (0.0, 0.006)])
def test_two_passes_have_the_power_of_both_pooled_and_each_alone(decisions, decides_first, log_ratio, deviation):
    expected = power_of_two_passes(log_ratio, deviation, decides_first=decides_first)
    design = replace(with_spread(KNOWN, deviation), decisions=decisions)
    assert detection_probability(design, log_ratio) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("decisions", [CONFIRMED, POOLED])
@pytest.mark.parametrize("log_ratio", [-0.35, -0.6])
def test_power_agrees_with_runs_that_are_drawn_and_judged(decisions, log_ratio):
    """Timings of so many runs are drawn, pooled and decided upon by the very functions of a session."""
    random = np.random.default_rng(0)
    design = replace(NOISY, decisions=decisions, documents=8)
    sessions = 1_000
    regressed = sum(is_found_in_drawn_runs(random, design, log_ratio) for _ in range(sessions))
    assert regressed / sessions == pytest.approx(detection_probability(design, log_ratio), abs=0.04)


def is_found_in_drawn_runs(random, design, log_ratio):
    def run(shift):
        noise = random.normal(0, design.document_deviation, design.documents)
        own = random.normal(0, design.spread.standard_deviation)
        # linear in the noise, so that a document's deviation is the design's
        return [
            Timing(tokens=100, seconds=float(each)) for each in np.maximum(1 - noise, 0.05) * math.exp(-shift - own)
        ]

    freedom = design.spread.degrees_of_freedom
    estimate = design.spread.standard_deviation * math.sqrt(random.chisquare(freedom) / freedom)
    baseline = [run(0.0) for _ in range(design.baseline_runs)]
    passes = [run(log_ratio) for _ in range(design.decisions[-1])]
    spread = Spread(standard_deviation=estimate, degrees_of_freedom=freedom)
    return all(
        is_regressed(pooled_change(passes[:count], baseline, spread.terms(len(baseline), count)))
        for count in design.decisions
    )


BOTH_BELOW_THEIR_MEAN = 1 / 4 + math.asin(1 / 4) / (2 * math.pi)
"""Two normals that share a third of a run's variance out of four thirds (Sheppard)."""


@pytest.mark.parametrize(
    ("log_ratio", "probability"),
    [(math.log(0.986), 0), (math.log(0.985), BOTH_BELOW_THEIR_MEAN), (math.log(0.98), 1)],
)
def test_a_slowdown_of_less_than_one_and_a_half_percent_is_never_found_however_certain(log_ratio, probability):
    certain = with_spread(replace(KNOWN, documents=10_000), 0.0001)
    assert detection_probability(certain, log_ratio) == pytest.approx(probability, abs=1e-6)


@pytest.mark.parametrize(("ratio", "probability"), [(0.9851, 0), (0.985, 1)])
def test_without_any_noise_the_threshold_alone_decides(ratio, probability):
    assert detection_probability(with_spread(KNOWN, 0.0), math.log(ratio)) == probability
    assert smallest_slowdown(with_spread(KNOWN, 0.0)) == pytest.approx(0.015)


def test_a_confirmed_alarm_is_rarer_than_a_pooled_one_and_that_than_one_in_a_hundred():
    one_run, confirmed, pooled = (
        detection_probability(replace(NOISY, decisions=decisions), 0.0) for decisions in (ONE_RUN, CONFIRMED, POOLED)
    )
    assert one_run == pytest.approx(0.01, abs=1e-4)
    assert 0.009 < pooled < 0.01
    assert 0.002 < confirmed < 0.006


def test_the_smallest_slowdown_of_a_known_spread_is_its_two_quantiles():
    # 99% one-sided is 2.32635 standard errors, 95% is 1.64485
    expected = 1 - math.exp(-(2.32635 + 1.64485) * 0.06 * math.sqrt(1 / 3 + 1))
    assert smallest_slowdown(replace(KNOWN, decisions=ONE_RUN)) == pytest.approx(expected, abs=1e-5)


def test_the_smallest_slowdown_of_an_estimated_spread_is_the_noncentral_t_s():
    design = replace(NOISY, document_deviation=0.0)
    error = 0.08 * math.sqrt(1 / 3 + 1 / 2)
    centrality = brentq(lambda each: nct.cdf(-t.ppf(0.99, 4), 4, each) - 0.95, -30, 0)
    assert smallest_slowdown(design) == pytest.approx(1 - math.exp(centrality * error), abs=1e-3)


def test_a_stricter_level_needs_a_larger_slowdown():
    expected = 1 - math.exp(-(norm.ppf(0.999) + norm.ppf(0.95)) * 0.06 * math.sqrt(1 / 3 + 1))
    assert smallest_slowdown(replace(KNOWN, decisions=ONE_RUN), 0.001) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("decisions", [CONFIRMED, POOLED])
@pytest.mark.parametrize("degrees_of_freedom", [None, 200.0])
def test_more_documents_and_more_baseline_runs_never_detect_less(decisions, degrees_of_freedom):
    design = replace(with_spread(NOISY, 0.02, degrees_of_freedom), decisions=decisions)
    for changed in ("documents", "baseline_runs"):
        found = [smallest_slowdown(replace(design, **{changed: number})) for number in (8, 9, 16, 64, 1_000, 10**6)]
        assert found == sorted(found, reverse=True)
        assert found[0] > found[-1]


# What 3% needs ---------------------------------------------------------------------------------------------------


def test_a_design_that_detects_three_percent_needs_nothing():
    assert need(with_spread(KNOWN, 0.003)) == Need(is_met=True)


def test_documents_that_are_needed_detect_and_one_less_does_not():
    design = with_spread(replace(NOISY, document_deviation=0.1), 0.003)
    needed = need(design)
    one_less, enough = (
        detection_probability(replace(design, documents=needed.documents - less), math.log(0.97)) for less in (1, 0)
    )
    assert one_less < 0.95 <= enough


def test_where_no_number_of_documents_decides_runs_do():
    """With k runs on a side 2/k times (3.97120 × 0.0099)² has to be at most log(0.97)²."""
    assert need(with_spread(KNOWN, 0.0099)) == Need(runs=math.ceil(2 * (3.97120 * 0.0099 / math.log(0.97)) ** 2))
    design = with_spread(KNOWN, 0.007)
    assert need(design) == Need(baseline_runs=4, runs=3)
    one_less, enough = (
        detection_probability(replace(design, baseline_runs=number), math.log(0.97)) for number in (3, 4)
    )
    assert one_less < 0.95 <= enough


def test_no_number_of_baseline_runs_makes_up_for_passes_that_differ_by_much():
    """At 0.8% between runs one pass of two at 0.97 is above 0.985 in more than one case of twenty."""
    assert 1 - norm.cdf(math.log(0.985 / 0.97) / 0.008) ** 2 > 0.05
    assert need(with_spread(KNOWN, 0.008)).baseline_runs is None


def test_two_passes_can_do_what_a_confirmed_one_does_not():
    design = replace(with_spread(KNOWN, 0.0065), decisions=CONFIRMED)
    assert need(design).baseline_runs == 3
    assert need(replace(design, decisions=POOLED)).is_met


def test_a_spread_beyond_any_number_of_runs_is_said_to_be():
    assert need(with_spread(KNOWN, 0.5)) == Need()


FEW_DEGREES = with_spread(replace(NOISY, documents=8), 0.01, 2.0)


def test_documents_that_detect_are_found_where_a_million_does_not():
    """Their noise lends the spread's two degrees of freedom its own, and a million documents have none to lend."""
    million = replace(FEW_DEGREES, documents=10**6)
    assert detection_probability(million, math.log(0.93)) < 0.95
    needed = need(FEW_DEGREES, 0.93)
    assert 512 < needed.documents < 1_024
    assert detection_probability(replace(FEW_DEGREES, documents=needed.documents), math.log(0.93)) >= 0.95


# Where the noise of a document comes from ------------------------------------------------------------------------


def stored(*seconds, name="llama2-7b-chat-4-bit", **info):
    return entries_of(run_of(*(benchmark(name, seconds=each, **info) for each in seconds)))


ALTERNATING, EQUAL = (1.9, 2.1) * 4, (2.0,) * 8


def test_measured_noise_of_an_experiment_comes_before_all_other():
    found = document_noise("a", stored(ALTERNATING, EQUAL), {"a": 0.1, "b": 0.3})
    assert found == (0.1, NoiseSource.MEASURED)


def test_two_stored_runs_tell_the_noise_of_a_document():
    # The runs differ by ±0.05 in each document, so around their mean by ±0.025: 16 × 0.025² over 7 degrees of freedom.
    deviation, noise = document_noise("a", stored(ALTERNATING, EQUAL), {"b": 0.3})
    assert noise is NoiseSource.STORED
    assert deviation == pytest.approx(math.sqrt(16 * 0.025**2 / 7))


@pytest.mark.parametrize(
    "entries",
    [
        [],
        stored(EQUAL),
        [*stored(ALTERNATING, workload="another"), *stored(EQUAL)],
        stored(ALTERNATING[:7], EQUAL[:7]),
    ],
    ids=["none", "one", "two-workloads", "seven-documents"],
)
def test_noise_that_is_not_known_is_that_of_the_other_experiments_or_none(entries):
    assert document_noise("a", entries, {"b": 0.3, "c": 0.4}) == (
        pytest.approx(math.sqrt(0.125)),
        NoiseSource.OTHERS,
    )
    assert document_noise("a", entries, {}) == (0.0, NoiseSource.UNKNOWN)


# The report ------------------------------------------------------------------------------------------------------


def planned(design=NOISY, *, noise=NoiseSource.MEASURED, stored_runs=3, loader="4-bit"):
    experiment = next(each for each in EXPERIMENTS if each.name == f"llama2-7b-chat-{loader}")
    return Planned(
        experiment=experiment,
        documents=design.documents if design else 7,
        stored_runs=stored_runs,
        noise=noise,
        design=design,
    )


def report(*rows, width=100):
    return plan_report(rows, unplanned_kinds=["continuous", "fastest"], width=width, color=False)


def row(text, name="llama2-7b-chat-4-bit"):
    return next(line for line in text.splitlines() if line.startswith(name)).split()[1:]


def test_a_row_has_the_design_and_what_it_detects():
    text = report(planned(KNOWN, noise=NoiseSource.STORED, stored_runs=1))
    assert row(text) == ["20", "3", "(1)", "6.0%", "assumed", "0.0%", "19.6%", "123", "runs", "a", "side"]
    assert (
        "the noise between processes and nights is assumed in part; `summarybench noise` (make noise) measures it"
        in text
    )
    assert "1 of 3 baseline runs are stored so far" in text
    assert (
        "how much one document varies is taken from its stored runs; `summarybench noise` (make noise) measures it"
        in text
    )
    assert "no number of documents shows 3%: runs differ by too much" in text


def test_a_measured_spread_says_its_degrees_of_freedom():
    text = report(planned())
    assert "the noise between processes and nights is measured, with 4.0 degrees of freedom" in text
    assert row(text)[3:6] == ["8.0%", "measured", "40.0%"]
    assert "stored so far" not in text


def test_plan_against_another_host_says_that_hosts_count():
    text = report(replace(planned(), is_of_another_host=True))
    assert "the noise between processes, nights and hosts is measured, with 4.0 degrees of freedom" in text
    assert "the stored runs are of another host, so the noise between hosts counts too" in text
    assert "another host" not in report(planned())


def test_spread_across_hosts_includes_what_hosts_differ_by():
    parts = KnownNoise(0.03, night=0.04, host=0.12).parts("any")
    found = [spread_of(parts, is_one_host=is_one).standard_deviation for is_one in (True, False)]
    assert found == pytest.approx([0.05, 0.13])


def test_without_the_noise_of_a_document_a_slowdown_is_a_lower_bound():
    text = report(planned(KNOWN, noise=NoiseSource.UNKNOWN))
    assert row(text)[5:8] == ["–", "≥", "19.6%"]
    assert "the slowdown is a lower bound" in text


def test_what_is_met_without_the_noise_of_a_document_is_unknown():
    assert row(report(planned(with_spread(KNOWN, 0.001), noise=NoiseSource.UNKNOWN)))[-1] == "unknown"


@pytest.mark.parametrize(
    ("design", "cell"),
    [
        (with_spread(KNOWN, 0.001), "met"),
        (replace(with_spread(KNOWN, 0.007), decisions=CONFIRMED), "4 runs, 2 passes"),
        (with_spread(KNOWN, 0.5), "over 1,000 runs"),
    ],
)
def test_what_three_percent_needs_is_one_cell(design, cell):
    assert f" {cell}\n" in report(planned(design))


@pytest.mark.parametrize(("documents", "is_said"), [(64, False), (1_024, False), (4_000, True)])
def test_a_plan_says_where_more_documents_would_detect_less(documents, is_said):
    text = report(planned(replace(FEW_DEGREES, documents=documents)))
    assert ("more documents would detect less" in text) is is_said


def test_seven_documents_plan_nothing_and_say_why():
    text = report(planned(None))
    assert row(text) == ["7", "–", "–", "–", "–", "–"]
    assert "fewer than 8 documents are never compared; ask for more --documents" in text


def test_several_experiments_are_told_the_session_s_false_alarms():
    text = report(planned(KNOWN), planned(KNOWN, loader="8-bit"))
    strict = smallest_slowdown(KNOWN, 0.005)
    assert "2 experiments would raise an alarm in up to 2.0% of the sessions" in text
    assert f"found from {strict:.1%} on" in text
    assert "Holm" not in report(planned(KNOWN))


def test_the_plan_fits_eighty_columns():
    text = report(planned(replace(NOISY, documents=1_000)), width=80)
    table = text.partition("\n\n")[0]
    assert max(len(line) for line in table.splitlines()) <= 80


def test_no_line_of_a_plan_ends_in_blanks():
    lines = report(planned(KNOWN)).splitlines()
    assert lines == [line.rstrip() for line in lines]


# Whole sessions --------------------------------------------------------------------------------------------------

COUNT_IMPORTS = """
    import sys

    def pytest_sessionfinish():
        heavy = {"torch", "transformers", "datasets", "bitsandbytes"} & set(sys.modules)
        print("heavy imports:", sorted(heavy))
"""
SMOLLM2 = "smollm2-135m-instruct-4-bit"


def test_a_plan_is_printed_and_nothing_is_measured(project):
    project.use(FAKE_MODELS + COUNT_IMPORTS)
    session = project.bench("--plan", "-s", "--benchmark-save=main", "--benchmark-json=out/run.json")
    assert session.exit_code == 0
    assert row(session.output, SMOLLM2)[:5] == ["8", "3", "(0)", "13.0%", "assumed"]
    assert "heavy imports: []" in session.output
    assert "passed" not in session.output
    assert session.stored == []
    assert not {path.name for path in session.folder.iterdir()} & {"results", "out"}


def test_a_plan_is_made_of_what_is_measured_and_stored(project):
    saved = project.bench("-k", "4-bit", "--benchmark-save=main").stored[0]
    project.bench("-k", "4-bit", "--benchmark-save=anchor")
    write_replicates(
        saved.parent, 0.02, experiment=SMOLLM2, runs=200, one_night=False, document_deviation=0.25, documents=8
    )
    runs = sorted((project.folder / "results").iterdir())
    options = ("--documents", "30", "--baseline-runs", "2", "--passes", "2")
    session = project.bench("--plan", "-k", "4-bit", *options)
    cells = row(session.output, SMOLLM2)
    assert cells[:3] == ["30", "2", "(1)"]
    assert cells[4:6] == ["measured", "25.0%"]
    assert "--passes 2: every experiment is measured in two processes" in session.output
    assert sorted((project.folder / "results").iterdir()) == runs


@pytest.mark.parametrize(
    ("kernels", "kept"),
    [((), True), (("a",), True), (("a", "a"), True), (("a", "b"), False), (("a", None), False), ((None,), False)],
)
def test_a_plan_expects_the_kernels_of_the_stored_runs_where_those_are_alike_and_told(kernels, kept):
    name = "llama2-7b-chat-fp16-compiled"
    (*stored,) = entries_of(run_of(*(benchmark(name, tuned_kernels=each) for each in kernels)))
    assert are_kernels_kept(stored) is kept


A_GPU = """
    from tests.fakes import FakeGpu

    def pytest_benchmarked_device():
        return FakeGpu()
"""


@pytest.mark.parametrize(
    ("options", "documents"), [((), "100"), (("--weights", "synthetic"), "49"), (("--documents", "30"), "30")]
)
def test_a_plan_counts_the_documents_that_there_are_without_asking_the_hub(project, options, documents):
    project.use(A_GPU)
    session = project.bench("--plan", "-m", "t4 and llama2", *options)
    assert session.exit_code == 0
    assert row(session.output)[:5] == [documents, "3", "(0)", "5.4%", "assumed"]


def test_a_session_of_seven_documents_has_no_plan(project):
    session = project.bench("--plan", "-k", "4-bit", "--documents", "7")
    assert session.exit_code == 0
    assert row(session.output, SMOLLM2) == ["7", "–", "–", "–", "–", "–"]


def test_documents_that_are_not_there_are_refused_before_a_plan(project, one_error_line):
    session = project.bench("--plan", "--documents", "5000")
    assert session.exit_code == 4
    assert "--documents 5000 is more than the 49" in one_error_line(session)


@pytest.mark.parametrize("options", [("-m", "cpu and overhead"), ("-m", "cpu", "--fastest")])
def test_a_plan_of_nothing_that_is_compared_says_so(project, options):
    session = project.bench("--plan", *options)
    assert session.exit_code == 0
    assert (
        "nothing to plan: no selected experiment compares documents with a baseline on this device (kinds that are never "
        "planned: largest safe batch, continuous, fastest, fidelity, memory, overhead, server, server overhead)"
    ) in session.output


def test_a_plan_of_nothing_names_the_kinds_that_are_never_planned():
    assert report() == (
        "nothing to plan: no selected experiment compares documents with a baseline on this device (kinds that are never "
        "planned: continuous, fastest)\n"
    )


def test_a_test_file_that_cannot_be_collected_fails_the_plan(project):
    (project.folder / "benchmarks" / "test_broken.py").write_text("import nothing_of_this_name\n")
    assert project.bench("--plan").exit_code == 2
