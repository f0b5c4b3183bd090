"""A model's tokenizer and configuration, available before its weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from summarybench.core.outcomes import UnavailableError
from summarybench.engines.pretrained import load_config, load_tokenizer
from summarybench.engines.weights import Weights


@dataclass(frozen=True, slots=True, kw_only=True)
class Chat:
    """A model's tokenizer and configuration: everything that prompts need."""

    tokenizer: Any
    config: Any

    @property
    def context_tokens(self) -> int:
        """The longest sequence in tokens, prompt and summary together.

        The model was trained for this length.
        """
        return int(self.config.max_position_embeddings)

    @property
    def template(self) -> str:
        return str(self.tokenizer.chat_template)

    def document_offsets(self, text: str) -> Sequence[tuple[int, int]]:
        found = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        return list(found["offset_mapping"])

    def chat_ids(self, message: str) -> Sequence[int]:
        messages = [{"role": "user", "content": message}]
        templated = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return list(self.tokenizer(templated, add_special_tokens=False)["input_ids"])  # the template adds them itself


def open_chat(weights: Weights) -> Chat:
    """Load the tokenizer and configuration.

    Raises UnavailableError if the tokenizer has no chat template.
    """
    tokenizer = load_tokenizer(weights.location)
    if not tokenizer.chat_template:
        raise UnavailableError(
            f"the tokenizer of {weights.location} has no chat template; use an instruction-tuned model with one"
        )
    return Chat(tokenizer=tokenizer, config=load_config(weights.location))
