"""The documents that one model summarizes in a session, and their prompts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from summarybench.documents.document import Document, DocumentSource
from summarybench.documents.languages import ENGLISH, Language
from summarybench.documents.prompts import INSTRUCTION, Prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Documents in the order in which they were drawn, with one prompt each.

    `revision` is the source's revision on the hub, or a digest of what was read. `dropped` counts the source's rows that are
    no documents, by the name of the reason.
    """

    source: DocumentSource
    revision: str
    documents: tuple[Document, ...]
    prompts: tuple[Prompt, ...]
    max_new_tokens: int
    instruction: str = INSTRUCTION
    language: Language = ENGLISH
    dropped: Mapping[str, int] = field(default_factory=dict)

    @property
    def longest_sequence(self) -> int:
        """Tokens of the longest prompt and a summary of full length."""
        return max(prompt.longest_call_tokens for prompt in self.prompts) + self.max_new_tokens

    def around_the_longest(self, count: int) -> Sample:
        """The document with the longest prompt and the first others.

        They are `count` in all, or as many as there are.
        """
        longest = max(range(len(self.prompts)), key=lambda index: len(self.prompts[index].token_ids))
        others = [index for index in range(len(self.prompts)) if index != longest][: count - 1]
        chosen = sorted([longest, *others])
        return replace(
            self,
            documents=tuple(self.documents[index] for index in chosen),
            prompts=tuple(self.prompts[index] for index in chosen),
        )

    def with_documents(self, ids: frozenset[str]) -> Sample:
        """The same sample, its documents reduced to those with these ids.

        The prompts stay.
        """
        return replace(self, documents=tuple(each for each in self.documents if each.id in ids))
