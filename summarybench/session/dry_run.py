"""`--dry-run`: what a session would measure, the memory it would need, and how long it would take."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from summarybench.catalogue.models import LOADERS, MODELS, Experiment
from summarybench.core.outcomes import InputError
from summarybench.engines.weights import identify
from summarybench.report.dry_run import Foreseen
from summarybench.runs.baselines import StoredRun, read_baselines
from summarybench.runs.run_file import Entry, read_run
from summarybench.runs.workload import DEFAULTS
from summarybench.session.config import Config
from summarybench.session.long_documents import check_long_documents_at_hand
from summarybench.session.memory import MemoryForecasts
from summarybench.session.plan import count_documents
from summarybench.session.progress import Progress
from summarybench.session.sampling import Sampler


def dry_run(tests: Mapping[str, Experiment], config: Config, progress: Progress) -> list[Foreseen]:
    """What is foreseen for the selected experiments (by nodeid).

    The time is estimated from the newest run of the same test on this device with the same weights and documents, in
    proportion to their number and to new tokens. A load that several tests shared then is counted for the first one only.
    Raises InputError for documents or baselines that cannot be used, and for limits that leave no room in prompts.
    """
    forecasts, sampler = MemoryForecasts(config), Sampler(config, progress)
    if config.settings.document_options.reads_in_calls:
        check_long_documents_at_hand(tests.values(), config.settings, sampler)
    documents = {model: count_documents(model, config, sampler) for model in {each.model for each in tests.values()}}
    earlier = list(_earlier_runs(config))
    found: list[Foreseen] = []
    loads: set[tuple[object, ...]] = set()
    for nodeid, experiment in tests.items():
        forecast = forecasts.of(experiment)
        stored, entry = _like(experiment, nodeid.rpartition("::")[2], earlier, config, sampler)
        count = documents[experiment.model]
        seconds = None
        if stored and entry:
            seconds = _seconds(entry, count, config.max_new_tokens)
            if (load := _load_of(stored, entry)) not in loads:
                seconds += entry.extra_info.get("load_seconds") or 0.0
            loads.add(load)
        found.append(
            Foreseen(
                experiment=experiment,
                documents=count,
                needed_bytes=forecast.needed_bytes,
                memory_bytes=forecast.memory_bytes,
                seconds=seconds,
                origin=stored.label if stored else "",
                obstacle=own.obstacle if (own := MODELS[experiment.model].own) else "",
            )
        )
    return found


def _earlier_runs(config: Config) -> Iterator[StoredRun]:
    """The runs of this device, newest first: those in the results folder, then the baselines."""
    settings, slug = config.settings, config.device.slug
    for path in sorted(settings.results_dir.glob(f"*-{slug}/run.json"), reverse=True):
        try:
            yield StoredRun(path=path, run=read_run(path))
        except InputError:  # an unfinished or damaged run is no source; a session that needs it says so
            continue
    yield from reversed(read_baselines(settings.baselines_dir / slug).runs)


def _like(
    experiment: Experiment, name: str, earlier: Iterable[StoredRun], config: Config, sampler: Sampler
) -> tuple[StoredRun | None, Entry | None]:
    """The first run that has this test with the same workload, as far as that is known before anything is loaded."""
    for run in earlier:
        entry = run.entry(name)
        if entry and _is_same_work(entry, run, experiment, config, sampler):
            return run, entry
    return None, None


def _is_same_work(entry: Entry, run: StoredRun, experiment: Experiment, config: Config, sampler: Sampler) -> bool:
    """Whether weights, documents, prompt limit and language are the same. The number of new tokens may differ."""
    settings, workload = config.settings, entry.extra_info["workload_settings"]
    source, options = settings.document_source_of(experiment.model), settings.document_options
    expected = {
        "document_source": source.value,
        "document_revision": sampler.local_revision(experiment.model) or workload.get("document_revision"),
        "max_prompt_tokens": config.max_prompt_tokens,
        "language": options.language.code,
    }
    if any(workload.get(key, DEFAULTS.get(key)) != value for key, value in expected.items()):
        return False
    if options.dataset and (run.run.get("settings") or {}).get("dataset") != options.conditions()["dataset"]:
        return False
    if LOADERS[experiment.loader].is_served and workload.get("weights") == "server":
        return True  # a server does not say what its weights are
    found = identify(MODELS[experiment.model], settings.model_paths, synthetic=settings.synthetic_weights)
    return found == (workload.get("weights"), workload.get("revision"))


def _load_of(stored: StoredRun, entry: Entry) -> tuple[object, ...]:
    """Identifies a load. Tests of a stored run that shared one have the same model, loader and exact loading time."""
    return stored.path, *(entry.extra_info.get(key) for key in ("model", "loader", "load_seconds"))


def _seconds(entry: Entry, documents: int, max_new_tokens: int) -> float:
    """Compiling as then, and the rounds and one warm-up in proportion to documents and token limit."""
    info = entry.extra_info
    by_document = sum(entry.seconds) / len(info["document_ids"]) * max_new_tokens / info["max_new_tokens"]
    return (info.get("compile_seconds") or 0.0) + by_document * (documents + 1)
