"""What became of each test of a session."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from summarybench.analysis.confirmation import ConfirmedRun
from summarybench.analysis.quality_session import failing_losses
from summarybench.core.outcomes import (
    NOT_RUN,
    Outcome,
    TestOutcome,
    outcome_as_record,
    outcome_of_record,
    with_confirmed_slowdown,
)
from summarybench.runs.run_folder import Results


class Outcomes:
    """The outcomes by nodeid, each journalled as soon as it is known.

    `resumed` has those that were taken over from an earlier run; their tests are not run again.
    """

    def __init__(self, results: Results, confirmation: ConfirmedRun, resumed: Mapping[str, TestOutcome]) -> None:
        self.resumed = dict(resumed)
        self._results = results
        self._confirmation = confirmation
        self._by_nodeid = dict(resumed)

    def __iter__(self) -> Iterator[TestOutcome]:
        return iter(list(self._by_nodeid.values()))

    def get(self, nodeid: str) -> TestOutcome | None:
        return self._by_nodeid.get(nodeid)

    def note(self, outcome: TestOutcome) -> None:
        """Journal an outcome and write the run file.

        Raises InputError where the disk refuses.
        """
        self._results.journal.append("outcome", outcome_as_record(outcome))
        self._by_nodeid[outcome.nodeid] = outcome
        self._results.write_run()

    def settle(self) -> bool:
        """Take the outcomes from the journal.

        Return whether the run was cut short: a selected test did not run to its end. The journal has the last word: an
        interrupt may have come between its record and this object's.
        """
        self._results.write_run()
        self._by_nodeid = {record["nodeid"]: outcome_of_record(record) for record in self._results.run["outcomes"]}
        return any(each.detail == NOT_RUN for nodeid, each in self._by_nodeid.items() if nodeid not in self.resumed)

    def fail_what_holm_rejects(self) -> None:
        """Fail the slowdowns and the losses of quality that Holm's correction confirms.

        Call it when all comparisons of the session are in. Until then, each was held against the strictest level.
        """
        for nodeid, detail in failing_losses(self._results.run["benchmarks"]).items():
            outcome = self.get(nodeid)
            if outcome is not None and (outcome.outcome is Outcome.PASSED or outcome.machine_only):
                self.note(_with_confirmed_loss(outcome, detail))
        for nodeid, is_of_machine in self._confirmation.rejected(self._results.run["benchmarks"]).items():
            outcome = self.get(nodeid)
            if outcome is not None and (outcome.outcome is Outcome.PASSED or outcome.quality_only):
                detail = "REGRESSED: confirmed once all comparisons of the session were in (Holm)"
                self.note(with_confirmed_slowdown(outcome, detail, is_of_machine=is_of_machine))


def _with_confirmed_loss(outcome: TestOutcome, detail: str) -> TestOutcome:
    """The outcome of a test that passed, or failed for the machine alone, after its loss of quality is confirmed."""
    is_passed = outcome.outcome is Outcome.PASSED
    return replace(
        outcome,
        outcome=Outcome.FAILED,
        detail=detail if is_passed else f"{outcome.detail}; {detail}",
        quality_only=True,
        machine_only=False,
    )
