"""Checks, before anything is measured, that prompts have room for reading long documents in several calls."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress

from summarybench.catalogue.models import LOADERS, MODELS, Experiment, ModelSpec
from summarybench.core.outcomes import UnavailableError
from summarybench.engines.chat import open_chat
from summarybench.engines.weights import Weights, find_weights, tokenizer_at_hand
from summarybench.session.sampling import Sampler
from summarybench.session.settings import Settings


def check_long_documents(experiments: Iterable[Experiment], settings: Settings, sampler: Sampler) -> None:
    """Build the prompts of all models whose tokenizer is on this machine; those of others are built when they are loaded.

    Raises InputError where the limit of a prompt leaves no room for a document or for the strategy's own prompts.
    """
    for model, spec in _loaded_here(experiments):
        if not (settings.synthetic_weights or spec.is_embedded or model in settings.model_paths):
            continue
        with suppress(UnavailableError):  # loading the model says the same
            weights = find_weights(spec, settings.model_paths, synthetic=settings.synthetic_weights)
            sampler.check_prompts(model, open_chat(weights))


def check_long_documents_at_hand(experiments: Iterable[Experiment], settings: Settings, sampler: Sampler) -> None:
    """Build the prompts of all models whose tokenizer and documents are on this machine. Nothing is made or downloaded.

    Raises InputError as `check_long_documents`.
    """
    for model, spec in _loaded_here(experiments):
        folder = tokenizer_at_hand(spec, settings.model_paths, synthetic=settings.synthetic_weights)
        if folder is not None and not settings.document_source_of(model).needs_hub:
            with suppress(UnavailableError):
                sampler.check_prompts(model, open_chat(Weights(kind="path", revision="", location=str(folder))))


def _loaded_here(experiments: Iterable[Experiment]) -> Iterator[tuple[str, ModelSpec]]:
    """The models that are not a server's, each once."""
    for model in dict.fromkeys(each.model for each in experiments if not LOADERS[each.loader].is_served):
        yield model, MODELS[model]
