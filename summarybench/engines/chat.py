"""A model's tokenizer and configuration, available before its weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from summarybench.core.outcomes import InputError, UnavailableError
from summarybench.engines.pretrained import load_config, load_tokenizer
from summarybench.engines.shapes import text_config_of
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
        return int(text_config_of(self.config).max_position_embeddings)

    @property
    def template(self) -> str:
        return str(self.tokenizer.chat_template)

    @property
    def special_tokens(self) -> frozenset[str]:
        """Texts that the tokenizer turns into tokens with a meaning of their own, such as `</s>`."""
        return frozenset(str(token) for token in self.tokenizer.added_tokens_decoder.values() if token.special)

    def document_offsets(self, text: str) -> Sequence[tuple[int, int]]:
        found = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, split_special_tokens=True)
        return list(found["offset_mapping"])

    def chat_ids(self, message: str) -> Sequence[int]:
        templated = self._templated(message)
        if not any(token in message for token in self.special_tokens):
            return self._ids(templated)
        return self._ids_around(templated, message.strip())

    def text_for_tokenizing(self, message: str) -> str | None:
        """The rendered prompt as text whose usual tokenization is `chat_ids`; None if there is no such text.

        A tokenizer that begins every text with a token would repeat the template's own, which is then left out.
        """
        text, ids = self._templated(message), self.chat_ids(message)
        candidates = (text, text.removeprefix(self.tokenizer.bos_token or ""))
        return next((each for each in candidates if self.tokenizer(each)["input_ids"] == ids), None)

    def _templated(self, message: str) -> str:
        messages = [{"role": "user", "content": message}]
        return str(self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))

    def text_of(self, token_ids: Sequence[int]) -> str:
        """The text of a prompt, with its special tokens."""
        return str(self.tokenizer.decode(token_ids, skip_special_tokens=False))

    def _ids_around(self, templated: str, message: str) -> list[int]:
        """The ids of a prompt whose message contains the text of a special token. In the message it stays text.

        Raises InputError if the template changes the message, so that it cannot be told from the template.
        """
        before, found, after = templated.partition(message)
        if not found:
            raise InputError(
                "the chat template changes documents that contain a special token of the model "
                f"({', '.join(sorted(token for token in self.special_tokens if token in message))}): remove it from the documents"
            )
        return [*self._ids(before), *self._ids(found, split_special_tokens=True), *self._ids(after)]

    def _ids(self, text: str, **options: bool) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False, **options)["input_ids"])  # the template has them


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
