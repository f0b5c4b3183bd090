"""`--show-prompt`: the rendered prompt of each model's first document. Nothing is measured, and no weights are loaded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from summarybench.catalogue.models import MODELS, Experiment
from summarybench.core.numbers import counted
from summarybench.core.outcomes import UnavailableError
from summarybench.engines.chat import open_chat
from summarybench.engines.weights import find_weights
from summarybench.session.config import Config
from summarybench.session.progress import Progress
from summarybench.session.sampling import Sampler


def first_prompts(experiments: Iterable[Experiment], config: Config, progress: Progress) -> Iterator[str]:
    """One text for each model: a heading, and the prompt with its special tokens as the model gets it.

    A model whose tokenizer or documents could not be downloaded has a line that says so. Raises InputError for documents
    that cannot be used, and for a model without a chat template.
    """
    sampler = Sampler(config, progress)
    for model in dict.fromkeys(experiment.model for experiment in experiments):
        try:
            yield _first_prompt(model, config, sampler)
        except UnavailableError as error:
            yield f"{model}: {error}"


def _first_prompt(model: str, config: Config, sampler: Sampler) -> str:
    settings = config.settings
    chat = open_chat(find_weights(MODELS[model], settings.model_paths, synthetic=settings.synthetic_weights))
    prompt = sampler.sample_for(model, chat, settings.document_options.long_documents[0]).prompts[0]
    tokens = counted(prompt.token_ids, "token")
    of_document = f"{prompt.document_tokens} of the document{', which was truncated' if prompt.truncated else ''}"
    if prompt.reading:
        of_document = f"the first of several for a document of {counted(prompt.document_tokens, 'token')}"
    return f"{model}: first prompt, {tokens}, {of_document}\n{chat.text_of(prompt.token_ids)}\n"
