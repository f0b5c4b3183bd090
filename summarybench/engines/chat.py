"""A model's tokenizer and configuration, available before its weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from summarybench.core.outcomes import InputError, UnavailableError, first_line
from summarybench.engines.pretrained import load_config, load_tokenizer
from summarybench.engines.shapes import text_config_of
from summarybench.engines.weights import Weights

TODAY = datetime(2025, 1, 1, tzinfo=UTC)
"""The day for templates that state one: with the true date, prompts would differ each day under one workload."""
CONTEXTS = ("max_position_embeddings", "max_seq_len", "seq_length")
"""The names that configurations have for the longest sequence; the second is MPT's, the third BLOOM's."""
WITHOUT_LIMIT = 1_000_000
PROBE, ANSWER = "A message to find again.", "An answer to find again."


@dataclass(frozen=True, slots=True, kw_only=True)
class Chat:
    """A model's tokenizer and configuration: everything that prompts need.

    With `wants_parts`, the chat template takes messages as lists of parts, and not as strings.
    """

    tokenizer: Any
    config: Any
    wants_parts: bool = False

    @property
    def context_tokens(self) -> int:
        """The longest sequence in tokens, prompt and summary together.

        The model was trained for this length. `WITHOUT_LIMIT` if the configuration states none, as for Mamba.
        """
        text = text_config_of(self.config)
        stated = (getattr(text, name, None) for name in CONTEXTS)
        return next((int(tokens) for tokens in stated if tokens), WITHOUT_LIMIT)

    @property
    def template(self) -> str:
        """The chat template, with the date that it is given, if it asks for one."""
        template = str(self.tokenizer.chat_template)
        return f"{template}\n{TODAY:%Y-%m-%d}" if "strftime_now" in template else template

    @property
    def end_token(self) -> int | None:
        """The special token with which the template ends an answer; None if there is none.

        A model may be published with another end token in its generation_config, and would then never stop.
        """
        try:
            turns = [self._turn("user", PROBE), self._turn("assistant", ANSWER)]
            text = _rendered(self.tokenizer, turns, add_generation_prompt=False)
        except UnavailableError:
            return None
        _, found, after = text.rpartition(ANSWER)
        ids = self._ids(after.lstrip()) if found else []
        return ids[0] if ids and self.tokenizer.decode(ids[:1]) in self.special_tokens else None

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
        return _rendered(self.tokenizer, [self._turn("user", message)])

    def _turn(self, role: str, text: str) -> dict[str, Any]:
        return {"role": role, "content": _in_parts(text) if self.wants_parts else text}

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

    Raises InputError if the tokenizer has no chat template, and UnavailableError if a file or the template cannot be used.
    """
    tokenizer = load_tokenizer(weights.location)
    if not tokenizer.chat_template:
        raise InputError(
            f"the tokenizer of {weights.location} has no chat template; use an instruction-tuned model with one"
        )
    _hold_date(tokenizer)
    wants_parts = _wants_parts(tokenizer, weights.location)
    return Chat(tokenizer=tokenizer, config=load_config(weights.location), wants_parts=wants_parts)


def _hold_date(tokenizer: Any) -> None:
    """Let a template that asks for the date always be given `TODAY`.

    transformers passes no functions on to a template, and keeps compiled templates by their text.
    """
    from transformers.utils.chat_template_utils import _compile_jinja_template

    if "strftime_now" in str(tokenizer.chat_template):
        _compile_jinja_template(tokenizer.get_chat_template()).globals["strftime_now"] = TODAY.strftime


def _wants_parts(tokenizer: Any, location: str) -> bool:
    """Whether the template drops a message that is a string, and keeps one that is a list of parts.

    Raises UnavailableError if it keeps neither, such as a template that demands a system message, or if it has a syntax error.
    """
    from jinja2 import TemplateSyntaxError

    reasons = []
    for wants_parts, content in ((False, PROBE), (True, _in_parts(PROBE))):
        try:
            if PROBE in _rendered(tokenizer, [{"role": "user", "content": content}]):
                return wants_parts
            reasons.append("it leaves the message out")
        except UnavailableError as error:
            if isinstance(error.__cause__, TemplateSyntaxError):
                line = error.__cause__.lineno
                raise UnavailableError(
                    f"the chat template of {location} is not valid: line {line}: {error}; correct it, or download the model again"
                ) from error
            reasons.append(str(error))
    raise UnavailableError(
        f"the chat template of {location} does not take a single message of the user ({reasons[0]}); give a model, or a "
        "tokenizer_config.json or chat_template.jinja, whose template does"
    )


def _in_parts(text: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text}]


def _rendered(tokenizer: Any, messages: Sequence[Mapping[str, Any]], *, add_generation_prompt: bool = True) -> str:
    """The messages in the chat template, on the day `TODAY`. Raises UnavailableError if the template refuses them."""
    from jinja2 import TemplateError

    try:
        return str(
            tokenizer.apply_chat_template(
                list(messages),
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
            )
        )
    except (TemplateError, TypeError, ValueError) as error:
        raise UnavailableError(first_line(error)) from error
