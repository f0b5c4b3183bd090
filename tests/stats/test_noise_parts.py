"""The three parts of the noise: what is estimated from stored runs, and what each part adds to a comparison."""

from __future__ import annotations

import math

import numpy as np
import pytest

from summarybench.stats.intervals import student_quantile
from summarybench.stats.noise_parts import (
    LEAST_DEGREES_OF_FREEDOM,
    Level,
    NoiseParts,
    Observation,
    Part,
    Place,
    estimate_parts,
)
from summarybench.stats.successive_differences import successive_difference_freedom

PRIORS = {Level.PROCESS: 0.05, Level.NIGHT: 0.02, Level.HOST: 0.10}
UP_TO = {Level.PROCESS: 0.05, Level.NIGHT: math.hypot(0.05, 0.02), Level.HOST: math.hypot(0.05, 0.02, 0.10)}
HERE, LATER, ELSEWHERE = Place(host="a", night="1"), Place(host="a", night="2"), Place(host="b", night="2")
PARTS = NoiseParts(
    process=Part(variance=1.0, degrees_of_freedom=10),
    night=Part(variance=3.0, degrees_of_freedom=20),
    host=Part(variance=8.0, degrees_of_freedom=5),
)


def observed(values, experiment="e", host="a"):
    """One run a night unless a value is a list: then several processes of that night."""
    return [
        Observation(
            experiment=experiment,
            place=Place(host=host, night=f"{night:03}"),
            process=f"{host}-{night}-{process}",
            log_speed=each,
        )
        for night, value in enumerate(values)
        for process, each in enumerate(value if isinstance(value, list) else [value])
    ]


# What a comparison varies by --------------------------------------------------------------------------------------


def variances(now, baseline):
    return {term.level: term.variance for term in PARTS.terms(now, baseline)}


def test_runs_of_one_night_differ_by_the_process_alone():
    assert variances([HERE], [HERE]) == pytest.approx({Level.PROCESS: 2.0})


def test_another_night_adds_the_night_and_another_host_both():
    assert variances([LATER], [HERE]) == pytest.approx({Level.PROCESS: 2.0, Level.NIGHT: 4.0})
    assert variances([ELSEWHERE], [HERE]) == pytest.approx({Level.PROCESS: 2.0, Level.NIGHT: 4.0, Level.HOST: 10.0})


def test_second_pass_halves_the_process_and_not_the_night():
    assert variances([LATER, LATER], [HERE]) == pytest.approx({Level.PROCESS: 1.5, Level.NIGHT: 4.0})


def test_more_baseline_nights_shrink_their_side():
    nights = [Place(host="a", night=str(number)) for number in range(4)]
    assert variances([Place(host="a", night="9")], nights) == pytest.approx({Level.PROCESS: 1.25, Level.NIGHT: 2.5})


def test_a_larger_lower_part_leaves_nothing_to_the_part_above():
    parts = NoiseParts(
        process=Part(variance=2.0, degrees_of_freedom=4),
        night=Part(variance=1.0, degrees_of_freedom=4),
        host=Part(variance=1.5, degrees_of_freedom=4),
    )
    assert {term.level: term.variance for term in parts.terms([ELSEWHERE], [HERE])} == {Level.PROCESS: 4.0}


@pytest.mark.parametrize("sides", [([], [HERE]), ([HERE], [])])
def test_a_side_without_runs_is_refused(sides):
    with pytest.raises(ValueError, match="a run on each side"):
        PARTS.terms(*sides)


# Estimating -------------------------------------------------------------------------------------------------------


def test_without_any_run_all_parts_are_the_priors_and_not_measured():
    parts = estimate_parts([], "e", PRIORS)
    for level, part in zip(Level, (parts.process, parts.night, parts.host), strict=True):
        assert part.standard_deviation == pytest.approx(UP_TO[level])
        assert (part.degrees_of_freedom, part.is_measured) == (LEAST_DEGREES_OF_FREEDOM, False)


def test_one_run_a_night_measures_the_nights_and_bounds_the_process():
    parts = estimate_parts(observed([0.0, 0.02] * 8), "e", PRIORS)
    assert parts.night.is_measured
    assert parts.night.standard_deviation == pytest.approx(0.02 / math.sqrt(2))
    assert parts.night.degrees_of_freedom == successive_difference_freedom(16)
    assert parts.process == parts.night
    assert not parts.host.is_measured


def test_second_pass_averages_nothing_where_only_nights_were_measured():
    """A night's passes may share all of its deviation; two runs of one night may share none of it."""
    parts = estimate_parts(observed([0.0, 0.01, -0.01, 0.02, 0.0, -0.01, 0.01]), "e", PRIORS)
    assert parts.process == parts.night
    once, twice = (math.fsum(each.variance for each in parts.terms([LATER] * passes, [HERE])) for passes in (1, 2))
    assert once == twice == pytest.approx(2 * parts.night.variance)
    (same_night,) = parts.terms([HERE], [HERE])
    assert same_night.variance == pytest.approx(2 * parts.night.variance)


def test_several_processes_of_one_night_measure_the_process_alone():
    parts = estimate_parts(observed([[0.0, 0.02, 0.01, 0.03, 0.02, 0.01, 0.0]]), "e", PRIORS)
    assert parts.process.is_measured
    assert parts.process.standard_deviation == pytest.approx(np.std([0, 2, 1, 3, 2, 1, 0], ddof=1) / 100)
    assert not parts.night.is_measured
    assert parts.night.standard_deviation == pytest.approx(math.hypot(parts.process.standard_deviation, 0.02))


def test_nights_of_several_processes_give_what_a_single_run_varies_by():
    rng = np.random.default_rng(0)
    nights = [list(night + rng.normal(0, 0.02, 4)) for night in rng.normal(0, 0.03, 400)]
    parts = estimate_parts(observed(nights), "e", PRIORS)
    assert parts.process.standard_deviation == pytest.approx(0.02, rel=0.05)
    assert parts.night.standard_deviation == pytest.approx(math.hypot(0.02, 0.03), rel=0.05)


def test_hosts_give_what_a_single_run_varies_by_between_them():
    rng = np.random.default_rng(1)
    found = [
        each
        for number, host in enumerate(rng.normal(0, 0.1, 60))
        for each in observed(list(host + rng.normal(0, 0.02, 6)), host=str(number))
    ]
    parts = estimate_parts(found, "e", PRIORS)
    assert parts.host.standard_deviation == pytest.approx(math.hypot(0.1, 0.02), rel=0.15)


def test_one_accepted_step_between_nights_widens_the_noise_once():
    rng = np.random.default_rng(2)
    steady = list(rng.normal(0, 0.005, 40))
    stepped = [*steady[:20], *(each - 0.05 for each in steady[20:])]
    before, after = (estimate_parts(observed(each), "e", PRIORS).night.standard_deviation for each in (steady, stepped))
    assert after < 1.8 * before  # the plain standard deviation grows fivefold


def test_experiments_of_one_process_are_not_counted_as_independent():
    together = [each for name in "abcde" for each in observed([[0.0, 0.02, 0.01]], experiment=name)]
    parts = estimate_parts(together, "not measured itself", PRIORS)
    assert parts.process.measured_share == pytest.approx(2 / LEAST_DEGREES_OF_FREEDOM)


def test_a_quiet_experiment_is_not_judged_by_a_noisy_neighbour_for_long():
    rng = np.random.default_rng(3)
    quiet = observed(list(rng.normal(0, 0.005, 30)), experiment="quiet")
    noisy = observed(list(rng.normal(0, 0.02, 30)), experiment="noisy")
    parts = estimate_parts([*quiet, *noisy], "quiet", PRIORS)
    assert 0.004 < parts.night.standard_deviation < 0.007


def test_an_experiment_s_own_runs_are_not_lent_to_it_a_second_time():
    alone = estimate_parts(observed([[0.0, 0.02, 0.01]]), "e", PRIORS).process
    assert alone.measured_share == pytest.approx(2 / LEAST_DEGREES_OF_FREEDOM)


def test_few_runs_of_an_experiment_are_filled_up_with_those_of_its_class():
    class_mates = observed([[0.0, 0.04, 0.02, 0.06, 0.04, 0.02, 0.0]], experiment="other")
    parts = estimate_parts([*observed([[0.0, 0.02, 0.01]]), *class_mates], "e", PRIORS)
    mates_variance = np.var([0, 4, 2, 6, 4, 2, 0], ddof=1) / 1e4
    assert parts.process.variance == pytest.approx((2 * 0.0001 + 2 * mates_variance) / 4)
    assert (parts.process.degrees_of_freedom, parts.process.measured_share) == (4, 1)


def test_a_host_with_enough_runs_is_judged_by_its_own():
    quiet = observed([0.0, 0.004] * 5, host="quiet")
    noisy = observed([0.0, 0.1] * 5, host="noisy")
    found = [
        estimate_parts([*quiet, *noisy], "e", PRIORS, host).night.standard_deviation
        for host in ("quiet", "noisy", None)
    ]
    assert found[0] == pytest.approx(0.004 / math.sqrt(2))
    assert found[1] == pytest.approx(0.1 / math.sqrt(2))
    assert found[0] < found[2] < found[1]


def test_a_new_host_is_judged_by_the_others_nights_on_top_of_its_own_processes():
    here = observed([[0.0, 0.01, 0.0, 0.01, 0.0, 0.01]], host="here")
    others = [each for name in "ab" for each in observed([[0.0, 0.02], [0.1, 0.12]] * 5, host=name)]
    parts = estimate_parts([*here, *others], "e", PRIORS, "here")
    assert parts.process.standard_deviation == pytest.approx(np.std([0, 1] * 3, ddof=1) / 100)
    assert 0.06 < parts.added(Level.NIGHT) < 0.08


def test_document_variance_is_taken_off_but_never_all_of_the_noise():
    values = [0.0, 0.02] * 8
    noisy_documents = [
        Observation(
            **{name: getattr(each, name) for name in ("experiment", "place", "process", "log_speed")},
            document_variance=1.0,
        )
        for each in observed(values)
    ]
    with_documents = estimate_parts(noisy_documents, "e", PRIORS).night.standard_deviation
    without = estimate_parts(observed(values), "e", PRIORS).night.standard_deviation
    assert 0 < with_documents < without


@pytest.mark.parametrize(("process", "night"), [(0.05, 0.02), (0.003, 0.004), (0.0003, 0.01), (0.02, 0.02)])
@pytest.mark.parametrize("nights", [1, 5, 20])
def test_unchanged_code_is_slower_at_99_percent_in_about_one_night_of_a_hundred(process, night, nights):
    """Tonight against the three newest nights, judged by the noise that the stored nights show."""
    rng = np.random.default_rng(4)
    alarms, trials = 0, 400
    for _ in range(trials):
        drawn = list(rng.normal(0, night, nights + 1) + rng.normal(0, process, nights + 1))
        stored = observed(drawn[:-1])
        terms = estimate_parts(stored, "e", PRIORS).terms(
            [Place(host="a", night="tonight")], [each.place for each in stored[-3:]]
        )
        variance = math.fsum(term.variance for term in terms)
        freedom = variance**2 / math.fsum(term.variance**2 / term.degrees_of_freedom for term in terms)
        change = drawn[-1] - float(np.mean(drawn[max(0, nights - 3) : nights]))
        alarms += change + student_quantile(0.99, freedom) * math.sqrt(variance) < 0
    assert alarms / trials <= 0.025  # 1%, and three standard errors of 400 trials


def test_a_first_night_fails_what_is_twice_as_slow_and_not_what_is_a_tenth_slower():
    first = observed([0.0])
    (process, nights) = estimate_parts(first, "e", PRIORS).terms([LATER], [HERE])
    variance = process.variance + nights.variance
    freedom = variance**2 / (
        process.variance**2 / process.degrees_of_freedom + nights.variance**2 / nights.degrees_of_freedom
    )
    reach = student_quantile(0.99, freedom) * math.sqrt(variance)
    assert math.log(0.5) + reach < 0 < math.log(0.9) + reach
