"""`--plan`: the slowdowns that a session can detect.

They follow from its documents, baseline runs and passes. Nothing is measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from summarybench.analysis.device_noise import measures_gpu, read_device_noise, spread_of
from summarybench.analysis.planning import Planned, are_kernels_kept, document_noise
from summarybench.catalogue.models import Experiment
from summarybench.machine.environment import host_id_of, host_of
from summarybench.runs.baselines import read_baselines
from summarybench.session.config import Config
from summarybench.session.progress import Progress
from summarybench.session.sampling import Sampler
from summarybench.stats.changes import MINIMUM_COMMON_DOCUMENTS
from summarybench.stats.power import CONFIRMED, POOLED, Design


def plan(tests: Mapping[str, Experiment], config: Config, progress: Progress) -> list[Planned]:
    """Plan the selected experiments (by nodeid).

    Raises InputError for documents or baselines that cannot be used.
    """
    settings, device = config.settings, config.device
    baselines = read_baselines(settings.baselines_dir / device.slug)
    of_device = read_device_noise(baselines, is_gpu=measures_gpu(device, baselines))
    sampler = Sampler(config, progress)
    models = {experiment.model for experiment in tests.values()}
    counts = {model: count_documents(model, config, sampler) for model in models}
    planned = []
    host, host_id = host_of(device), host_id_of(device, settings.host_name)
    for nodeid, experiment in tests.items():
        name = nodeid.rpartition("::")[2]
        entries = baselines.entries(name)
        is_of_host = baselines.hosts_of(name, settings.baseline_runs) <= {host_id}
        spread = of_device.probes.on(host) if is_of_host else of_device.probes
        tuned_alike = is_of_host and are_kernels_kept(entries[-settings.baseline_runs :])
        alike = spread.deviations_like(experiment.name)
        deviation, noise = document_noise(experiment.name, entries, alike)
        documents = math.ceil(counts[experiment.model] / experiment.batch_size)
        design = Design(
            documents=documents,
            document_deviation=deviation,
            spread=spread_of(
                of_device.parts(experiment.name, tuned_alike=tuned_alike, host=host_id if is_of_host else None),
                is_one_host=is_of_host,
            ),
            baseline_runs=settings.baseline_runs,
            decisions=CONFIRMED if settings.passes == 1 else POOLED,
        )
        planned.append(
            Planned(
                experiment=experiment,
                documents=documents,
                stored_runs=len(entries),
                noise=noise,
                design=design if documents >= MINIMUM_COMMON_DOCUMENTS else None,
                is_of_another_host=not is_of_host,
            )
        )
    return planned


def count_documents(model: str, config: Config, sampler: Sampler) -> int:
    """How many documents the model would summarize. Raises InputError for documents that cannot be used."""
    # A dataset of the hub has far more documents than anybody asks for; counting them would download them.
    if config.settings.document_source_of(model).needs_hub:
        return config.documents
    return sum(1 for _ in sampler.documents([model]))
