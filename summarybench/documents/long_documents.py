"""Documents that do not fit in one prompt: cut off, or read in several calls of the model.

Map-reduce summarizes the parts of a document, then the joined summaries. Refine reads part after part and carries a summary of
what it has read. A document that fits is prompted in the same way by all strategies.
"""

from __future__ import annotations

from argparse import ArgumentTypeError
from bisect import bisect_left
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, repeat

from summarybench.core.outcomes import InputError
from summarybench.documents.document import Document
from summarybench.documents.prompts import (
    INSTRUCTION,
    Call,
    ChatTokenizer,
    Fitted,
    Prompt,
    build_prompt,
    fit,
    message_with,
)
from summarybench.documents.strategy import Strategy
from summarybench.documents.words import sentences

ALL = "all"
SEPARATOR = "\n"
"""Between the summaries that map-reduce joins."""
SO_FAR, GOES_ON = "Summary of the text so far:", "The text goes on:"
WORDING: Mapping[Strategy, str] = {
    Strategy.TRUNCATE: "",
    Strategy.MAP_REDUCE: SEPARATOR,
    Strategy.REFINE: f"{SO_FAR}\n{GOES_ON}",
}
"""What prompts contain besides instruction, document and summaries; a part of the workload."""
BLANKS = " \t\n\u3000"
SPARE_TOKENS = 8
"""Room for a summary that has more tokens as a part of a prompt than when it was generated."""


def strategies(text: str) -> tuple[Strategy, ...]:
    """The strategies of --long-documents. Raises ArgumentTypeError for another name."""
    names = [each.strip() for each in text.split(",")]
    known = [each.value for each in Strategy]
    for name in names:
        if name not in (*known, ALL):
            raise ArgumentTypeError(f"{name!r}: give {', '.join(known)} or {ALL}; several are divided by commas")
    return tuple(each for each in Strategy if each in names or ALL in names)


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What prompts are made with: the limits of prompt and answer in tokens, the tokenizer and the instruction."""

    tokenizer: ChatTokenizer
    max_prompt_tokens: int
    max_new_tokens: int
    instruction: str = INSTRUCTION

    def fitted(self, text: str, limit: int, message_of: Callable[[str], str]) -> Fitted:
        """As `fit`. A text without any token becomes an empty message."""
        found = fit(text, self.tokenizer, limit, message_of)
        if found is not None:
            return found
        message = message_of("")
        ids = tuple(self.tokenizer.chat_ids(message))
        return Fitted(message=message, token_ids=ids, kept=0, end=0, is_whole=not text.strip())

    def beside(self, message: str) -> int:
        """The prompt's tokens that this message leaves free."""
        return self.max_prompt_tokens - len(self.tokenizer.chat_ids(message))


def prompt_for(document: Document, room: Room, strategy: Strategy = Strategy.TRUNCATE) -> Prompt:
    """The prompt of a document that fits, and otherwise what the strategy makes of it.

    Raises InputError if the limits leave no room for the strategy's own prompts.
    """
    whole = build_prompt(document, room.tokenizer, room.max_prompt_tokens, room.instruction)
    if strategy is Strategy.TRUNCATE or not whole.truncated:
        return whole
    reading = _map_reduce(document.text, room) if strategy is Strategy.MAP_REDUCE else _refine(document.text, room)
    return Prompt(
        document=document,
        token_ids=reading.first[0].token_ids,
        document_tokens=whole.document_tokens + whole.unread_tokens,
        truncated=False,
        message=reading.first[0].message,
        reading=reading,
    )


# Map-reduce ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class MapReduce:
    """Summarize the parts, then the joined summaries, and those of the joined ones until one prompt holds them."""

    room: Room
    first: tuple[Call, ...]

    @property
    def limit(self) -> int:
        return self.room.max_prompt_tokens

    def calls(self) -> Generator[tuple[Call, ...], Sequence[str], None]:
        summaries = [*(yield self.first)]
        while len(groups := self._groups(summaries)) > 1:
            several = [index for index, group in enumerate(groups) if len(group) > 1]
            answers = yield tuple(self._call(groups[index]) for index in several)
            merged = dict(zip(several, answers, strict=True))
            summaries = [merged.get(index, group[0]) for index, group in enumerate(groups)]
        yield (self._call(groups[0], is_last=True),)

    def _groups(self, summaries: Sequence[str]) -> list[list[str]]:
        """Neighbours that fit in one prompt. Any two are taken as fitting, so that there are always fewer groups."""
        groups: list[list[str]] = [[]]
        for summary in filter(None, summaries):
            group = [*groups[-1], summary]
            if len(group) <= 2 or self._fitted(group).is_whole:
                groups[-1] = group
            else:
                groups.append([summary])
        return groups

    def _fitted(self, group: Sequence[str]) -> Fitted:
        joined = SEPARATOR.join(group)
        return self.room.fitted(joined, self.limit, lambda text: message_with(self.room.instruction, text))

    def _call(self, group: Sequence[str], *, is_last: bool = False) -> Call:
        found = self._fitted(group)
        return Call(token_ids=found.token_ids, message=found.message, is_last=is_last)


def _map_reduce(text: str, room: Room) -> MapReduce:
    def message_of(part: str) -> str:
        return message_with(room.instruction, part)

    free, needed = room.beside(message_of("")), 2 * (room.max_new_tokens + SPARE_TOKENS)
    if free < needed:
        raise InputError(
            f"--long-documents {Strategy.MAP_REDUCE}: a prompt of {room.max_prompt_tokens} tokens leaves {max(free, 0)} beside chat "
            f"template and instruction, and two partial summaries of {room.max_new_tokens} tokens need {needed}; raise "
            "--max-prompt-tokens or lower --max-new-tokens"
        )
    parts = parts_of(text, room, repeat(Shape(room.max_prompt_tokens, message_of)))
    return MapReduce(room=room, first=tuple(part.call for part in parts))


# Refine ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Refine:
    """Summarize the first part, and then each further part together with the summary of what was before it."""

    room: Room
    first: tuple[Call, ...]
    further: tuple[str, ...]

    @property
    def limit(self) -> int:
        return self.room.max_prompt_tokens

    def calls(self) -> Generator[tuple[Call, ...], Sequence[str], None]:
        (summary,) = yield self.first
        for part in self.further[:-1]:
            (summary,) = yield (self._call(summary, part),)
        yield (self._call(summary, self.further[-1], is_last=True),)

    def _call(self, summary: str, part: str, *, is_last: bool = False) -> Call:
        """A summary with more tokens than there is room for loses its end, and not the document."""
        found = self.room.fitted(summary, self.limit, lambda kept: going_on(self.room.instruction, kept, part))
        return Call(token_ids=found.token_ids, message=found.message, is_last=is_last)


def going_on(instruction: str, summary: str, part: str) -> str:
    """The user message that asks for a summary of what was read before and of the next part."""
    return f"{instruction}\n\n{SO_FAR} {summary}\n\n{GOES_ON} {part}"


def _refine(text: str, room: Room) -> Refine:
    reserved = room.max_new_tokens + SPARE_TOKENS
    free = room.beside(going_on(room.instruction, "", "")) - reserved
    if free < room.max_new_tokens:
        raise InputError(
            f"--long-documents {Strategy.REFINE}: a prompt of {room.max_prompt_tokens} tokens leaves {max(free, 0)} for the next part "
            f"of a document beside chat template, instruction and a summary of {room.max_new_tokens} tokens, and needs "
            f"{room.max_new_tokens}; raise --max-prompt-tokens or lower --max-new-tokens"
        )
    first = Shape(room.max_prompt_tokens, lambda part: message_with(room.instruction, part))
    others = Shape(room.max_prompt_tokens - reserved, lambda part: going_on(room.instruction, "", part))
    parts = list(parts_of(text, room, chain([first], repeat(others))))
    return Refine(room=room, first=(parts[0].call,), further=tuple(part.text for part in parts[1:]))


# Parts -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Shape:
    """How long the prompt of a part may be in tokens, and the message that has the part."""

    limit: int
    message_of: Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a document, and the call that has it as its message."""

    text: str
    call: Call


def parts_of(text: str, room: Room, shapes: Iterable[Shape]) -> Iterator[Part]:
    """Divide a text into parts whose prompts fit, each as long as possible and in the shape that is next.

    A part ends after the last sentence that fits, after a word if that would leave half of the room unused, and after a
    token if there is no word. Only blanks between parts are left out.
    """
    offsets = room.tokenizer.document_offsets(text)
    starts = [start for start, _ in offsets]
    position = 0
    for shape in shapes:
        position += len(text[position:]) - len(text[position:].lstrip())
        if position == len(text):
            return
        last = min(bisect_left(starts, position) + shape.limit, len(offsets)) - 1
        window = text[position : offsets[last][1]]
        found = _fitted_part(window, room, shape)
        is_end = found.is_whole and last == len(offsets) - 1
        kept = window if is_end else window[: _good_end(window, found.end)]
        if kept != window[: found.end]:
            found = _fitted_part(kept, room, shape)
        part = kept[: found.end].rstrip()
        yield Part(part, Call(token_ids=found.token_ids, message=found.message))
        position += max(found.end, 1)


def _fitted_part(text: str, room: Room, shape: Shape) -> Fitted:
    return room.fitted(text, shape.limit, shape.message_of)


def _good_end(window: str, most: int) -> int:
    """Where to end a part of at most so many characters: after a sentence or a word, if that is in its second half."""
    end = position = 0
    for sentence in sentences(window)[:-1]:  # the last one may be cut off
        if (found := window.find(sentence, position)) >= 0:
            position = found + len(sentence)
            end = position if position <= most else end
    if end < most / 2:
        end = most if window[most : most + 1].isspace() else max(window.rfind(each, 0, most) for each in BLANKS)
    return end if end >= most / 2 else most
