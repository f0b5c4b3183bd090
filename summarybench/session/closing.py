"""Ends a session: writes the files of its run and stores a baseline if asked."""

from __future__ import annotations

from collections.abc import Iterator

from summarybench.core.invocation import this_invocation
from summarybench.core.outcomes import first_line
from summarybench.report.html import write_report
from summarybench.runs.baselines import SuperfluousError, save_baseline, why_unfit
from summarybench.runs.comparable import never_compared
from summarybench.runs.run_file import run_text
from summarybench.runs.run_folder import shown
from summarybench.session.session import Session


class Closing:
    """The end of one session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._results = session.results
        self._settings = session.config.settings

    def write_results(self, *, was_cut_short: bool) -> Iterator[str]:
        """Write what must not be lost: journal, run file, baseline. Yield a line for each.

        Raises InputError where the disk refuses.
        """
        results = self._results
        results.journal.append("session_seconds", self._session.seconds.as_record())
        results.write_run()
        yield f"run: {shown(results.folder / 'run.json')}"
        if problem := results.become_latest():
            yield problem
        if self._settings.save_as:
            yield self._save(self._settings.save_as, was_cut_short=was_cut_short)
            if results.is_saved:
                yield from never_compared(results.run)
        if self._settings.json_path is not None:
            results.write(self._settings.json_path, run_text(results.run))
            yield f"run copied to {self._settings.json_path}"

    def write_pages(self) -> Iterator[str]:
        """Write what can be made again from the results: documents.parquet and report.html.

        Yield a line where the page could not be written. Raises InputError where the disk refuses the documents.
        """
        models = {benchmark["extra_info"]["model"] for benchmark in self._results.run["benchmarks"]}
        self._results.write_documents(self._session.sampler.documents(models))
        yield from self._write_report()

    def _write_report(self) -> Iterator[str]:
        """Write report.html, which the session's last line names.

        Yield a line only where it could not be written.
        """
        try:
            write_report(self._results.folder, self._session.baselines, is_saved=self._results.is_saved)
        except Exception as error:  # whatever it is, the run must still be saved
            again = this_invocation().command("report", shown(self._results.folder))
            yield f"no report.html: {type(error).__name__}: {first_line(error)}; `{again}` tries again"

    def _save(self, name: str, *, was_cut_short: bool) -> str:
        if self._settings.passes > 1 and not self._settings.confirm and self._has_comparisons:
            return "not saved yet: the second pass decides"
        why = "the session was cut short" if was_cut_short else why_unfit(self._results.run)
        if why:
            return f"not saved as a baseline ({why}); only a clean run becomes one"
        try:
            stored = save_baseline(self._session.baselines.folder, name, self._results.run)
        except SuperfluousError as error:  # a resumed run had nothing left to measure, or another process was faster
            return f"not saved as a baseline: {error}"
        self._results.is_saved = True
        return f"baseline saved: {shown(stored)}"

    @property
    def _has_comparisons(self) -> bool:
        return any(benchmark["extra_info"]["change"] for benchmark in self._results.run["benchmarks"])
