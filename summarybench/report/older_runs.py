"""The kinds of experiments in runs from before a run file stated them."""

from __future__ import annotations

from summarybench.runs.kind_facts import KindFacts, Unit, kind_facts_in
from summarybench.runs.run_file import Entry

BEFORE_FACTS = {
    "test_summarize": KindFacts(name="summarize", place=0),
    "test_batching": KindFacts(name="batching", unit=Unit.BATCH, title="batching", place=1),
    "test_largest_safe_batch": KindFacts(
        name="largest_safe_batch",
        unit=Unit.BATCH,
        title="largest safe batch",
        compared_count="largest_safe_batch",
        place=2,
    ),
    "test_continuous": KindFacts(name="continuous", unit=Unit.ROUND, title="continuous", place=3),
    "test_fastest": KindFacts(name="fastest", unit=Unit.BATCH, title="fastest", place=4),
    "test_memory": KindFacts(name="memory", title="memory", is_own_speed=False),
    "test_overhead": KindFacts(name="overhead", title="overhead", is_own_speed=False),
    "test_fidelity": KindFacts(name="fidelity", title="fidelity", is_own_speed=False, place=0),
    "test_distributed": KindFacts(name="distributed", title="distributed", is_own_speed=False, place=0),
}


def kind_of(entry: Entry) -> KindFacts:
    """The kind that measured an experiment."""
    stated = kind_facts_in(entry.extra_info)
    if stated is not None:
        return stated
    name = entry.test.removeprefix("test_")
    return BEFORE_FACTS.get(entry.test) or KindFacts(name=name, title=name.replace("_", " "))
