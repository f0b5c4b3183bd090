"""A new kind of benchmark is one file and one test file: nothing else in the code has to know it.

The toy kind below is registered by a plugin in a folder of its own. It is selected, measured, compared and reported like
the kinds that come with the suite.
"""

from __future__ import annotations

import re
import textwrap

import pytest

from summarybench.runs.kind_facts import kind_facts_in
from tests.conftest import FAKE_MODELS

TOY_KIND = '''
    """Counts the words of the summaries."""

    from statistics import fmean

    from summarybench.catalogue.models import EXPERIMENTS, MODELS
    from summarybench.core.option import Option
    from summarybench.kinds.kind import Kind, Marker, cases_of
    from summarybench.kinds.registry import register
    from summarybench.runs.kind_facts import KindFacts, KindFigure

    WORDS = KindFigure(
        key="toy.mean_words",
        heading="words",
        unit="words",
        format=".1f",
        meaning="The mean number of words in a summary.",
    )


    class ToyKind(Kind):
        facts = KindFacts(name="toy", title="toy", figures=(WORDS,))
        marker = Marker(name="toy", description="words in a summary; runs when -m names it")
        options = (Option("--toy-least-words", "shorter summaries do not count", example="--toy-least-words 3", type=int),)

        def cases(self):
            return cases_of([each for each in EXPERIMENTS if MODELS[each.model].is_embedded and each.loader == "4-bit"])

        def resolved_options(self, given, device):
            return {"toy_least_words": given.get("toy_least_words") or 1}

        def measure(self, toolbox):
            loaded = toolbox.loaded_model()
            sample = toolbox.sample_for(loaded)
            measured = toolbox.measure(loaded, sample)
            counts = [len(record.summary.split()) for record in measured.records]
            words = fmean(count for count in counts if count >= toolbox.options["toy_least_words"])
            return toolbox.measurement(loaded, sample, measured, extra_info={"toy": {"mean_words": words}}, finding=words)


    register(ToyKind())
'''
TOY_TEST = '''
    """How many words does a summary have?"""

    import pytest

    from summarybench.analysis.comparison import assert_not_regressed


    @pytest.mark.kind("toy")
    def test_toy(loaded_model, measure):
        measurement, comparison = measure(loaded_model)
        assert_not_regressed(comparison)
        assert measurement.finding > 0
'''
WITH_TOY = ("-p", "toy_kind")
TOY = (*WITH_TOY, "-m", "toy and cpu", "--max-new-tokens", "20")
NAME = "smollm2-135m-instruct-4-bit"
NODEID = f"benchmarks/test_toy.py::test_toy[{NAME}]"
SLOWER = FAKE_MODELS.replace("experiment, TIME)", "experiment, TIME, seconds_per_token=0.02)")


@pytest.fixture
def toy_project(project):
    (project.folder / "toy_kind.py").write_text(textwrap.dedent(TOY_KIND), encoding="utf-8")
    (project.folder / "benchmarks" / "test_toy.py").write_text(textwrap.dedent(TOY_TEST), encoding="utf-8")
    return project


def test_toy_kind_is_selected_by_its_marker_and_runs_only_when_named(toy_project):
    named = toy_project.bench(*TOY, "--collect-only", "-q")
    assert [line for line in named.output.splitlines() if "::" in line] == [NODEID]
    unnamed = toy_project.bench(*WITH_TOY, "--collect-only", "-q")
    assert "test_summarize[" in unnamed.output
    assert "test_toy[" not in unnamed.output
    assert "@pytest.mark.toy: words in a summary" in toy_project.bench(*WITH_TOY, "--markers").output


def test_toy_kind_is_measured_and_its_figure_and_facts_are_in_the_run_file(toy_project):
    session = toy_project.bench(*TOY)
    assert session.exit_code == 0, session.output
    (benchmark,) = session.run["benchmarks"]
    info = benchmark["extra_info"]
    assert (benchmark["fullname"], info["experiment"]) == (NODEID, NAME)
    assert info["toy"] == {"mean_words": 20.0}
    assert len(info["document_ids"]) == len(benchmark["stats"]["data"]) == 8
    facts = kind_facts_in(info)
    assert (facts.name, facts.title) == ("toy", "toy")
    assert [figure.value_in(info) for figure in facts.figures] == [20.0]


def test_toy_kind_has_an_option_that_is_part_of_the_session_s_conditions(toy_project):
    session = toy_project.bench(*TOY, "--toy-least-words", "5")
    assert session.run["settings"]["toy_least_words"] == 5
    resumed = toy_project.bench(*TOY, "--resume", "results/latest")
    assert resumed.exit_code == 4
    assert "toy_least_words 1 here, 5 there" in resumed.output


def test_toy_kind_is_compared_with_a_stored_run_of_itself(toy_project):
    stored = toy_project.bench(*TOY, "--benchmark-save=main")
    assert (stored.exit_code, len(stored.stored)) == (0, 1), stored.output
    again = toy_project.bench(*TOY)
    info = again.by_experiment[NAME]
    assert (again.exit_code, info["change"]["documents"], info["change"]["ratio"]) == (0, 8, pytest.approx(1.0))
    toy_project.use(SLOWER)
    slower = toy_project.bench(*TOY)
    assert slower.by_experiment[NAME]["change"]["ratio"] == pytest.approx(0.5, rel=0.01)
    assert slower.outcomes == {NAME: "failed"}
    assert "REGRESSED" in slower.output


def test_toy_kind_is_no_baseline_for_the_usual_kind(toy_project):
    toy_project.bench(*TOY, "--benchmark-save=main")
    usual = toy_project.bench(*WITH_TOY, "-k", "4-bit", "--max-new-tokens", "20")
    assert usual.infos["4-bit"]["verdict"] == "NO BASELINE"


def test_toy_kind_is_reported_on_the_terminal_and_in_the_files(toy_project):
    toy_project.use(FAKE_MODELS.replace("    leave_out_pages()\n", ""))
    session = toy_project.bench(*TOY)
    results = session.folder / "results" / "latest"
    terminal = session.output.partition("summarization benchmarks")[2]
    markdown, page = ((results / name).read_text(encoding="utf-8") for name in ("report.md", "report.html"))
    assert re.search(rf"words\n─+\n{NAME} +20\.0 words\n", terminal), terminal
    assert re.search(rf"\| {NAME} \| 20\.0 words \|", markdown), markdown
    assert '4-bit (toy)</th><td class="n">20.0 words</td>' in page
    assert "The mean number of words in a summary." in page
