"""Documents that do not fit in one prompt: where they are divided, and which calls read them."""

from __future__ import annotations

from argparse import ArgumentTypeError

import pytest

from summarybench.core.outcomes import InputError
from summarybench.documents.document import Document
from summarybench.documents.long_documents import GOES_ON, SEPARATOR, SO_FAR, SPARE_TOKENS, Room, prompt_for, strategies
from summarybench.documents.strategy import Strategy

INSTRUCTION = "Sum up."


class Words:
    """One token a word, and a chat template of one token."""

    def document_offsets(self, text):
        found, end = [], 0
        for word in text.split():
            start = text.index(word, end)
            end = start + len(word)
            found.append((start, end))
        return found

    def chat_ids(self, message):
        return range(1 + len(message.split()))


def room(max_prompt_tokens, max_new_tokens=2):
    return Room(
        tokenizer=Words(),
        max_prompt_tokens=max_prompt_tokens,
        max_new_tokens=max_new_tokens,
        instruction=INSTRUCTION,
    )


OVERHEAD = 3  # template and instruction


def document(text):
    return Document(url="u", section="s", text=text, reference="")


def sentences(count, words=4):
    return " ".join(f"s{number} " + "w " * (words - 2) + "end." for number in range(count))


def texts_of(calls):
    return [call.message.removeprefix(f"{INSTRUCTION}\n\n") for call in calls]


def played(prompt, summary="short one"):
    """The calls of a document, step by step, if each of them is answered with `summary` and its number."""
    calls, steps, number = prompt.reading.calls(), [], 0
    pending = next(calls)
    while True:
        steps.append(pending)
        if any(call.is_last for call in pending):
            return steps
        answers = [f"{summary}{(number := number + 1)}" for _ in pending]
        pending = calls.send(answers)


@pytest.mark.parametrize("strategy", Strategy)
def test_a_document_that_fits_has_the_same_prompt_in_every_strategy(strategy):
    short = document("One two three.")
    assert prompt_for(short, room(30), strategy) == prompt_for(short, room(30))


def test_truncating_states_how_many_tokens_were_never_read():
    prompt = prompt_for(document(sentences(10)), room(OVERHEAD + 10))
    assert (prompt.document_tokens, prompt.unread_tokens, prompt.truncated, prompt.reading) == (10, 30, True, None)


# Parts -----------------------------------------------------------------------------------------------------------


def parts_of(text, kept, max_new_tokens=2):
    prompt = prompt_for(document(text), room(OVERHEAD + kept, max_new_tokens), Strategy.MAP_REDUCE)
    assert all(len(call.token_ids) <= OVERHEAD + kept for call in prompt.first_calls)
    return texts_of(prompt.first_calls)


def test_parts_end_after_the_last_sentence_that_fits():
    assert parts_of(sentences(12), 22) == [
        "s0 w w end. s1 w w end. s2 w w end. s3 w w end. s4 w w end.",
        "s5 w w end. s6 w w end. s7 w w end. s8 w w end. s9 w w end.",
        "s10 w w end. s11 w w end.",
    ]


def test_a_line_end_ends_a_sentence():
    heading, rest = " ".join(["heading"] * 15), " ".join(["rest"] * 15)
    assert parts_of(f"{heading}\n{rest}", 22) == [heading, rest]


def test_a_text_without_sentences_is_divided_between_words():
    assert parts_of("word " * 50, 24) == [" ".join(["word"] * count) for count in (24, 24, 2)]


def test_a_sentence_longer_than_a_part_leaves_no_half_of_a_part_unused():
    assert parts_of("Ab. " + "word " * 40, 22)[0] == "Ab. " + " ".join(["word"] * 21)


def test_no_word_is_lost_or_read_twice():
    text = "\n\n  ".join(sentences(3, words) for words in range(3, 40))
    prompt = prompt_for(document(text), room(OVERHEAD + 31), Strategy.MAP_REDUCE)
    assert " ".join(texts_of(prompt.first_calls)).split() == text.split()
    assert prompt.document_tokens == len(text.split())
    assert not prompt.truncated


def test_a_part_of_characters_without_blanks_ends_anywhere():
    class Characters(Words):
        def document_offsets(self, text):
            return [(number, number + 1) for number in range(len(text))]

        def chat_ids(self, message):
            return range(len(message))

    limits = Room(tokenizer=Characters(), max_prompt_tokens=31, max_new_tokens=2, instruction=INSTRUCTION)
    prompt = prompt_for(document("字" * 50), limits, Strategy.MAP_REDUCE)
    assert list(map(len, texts_of(prompt.first_calls))) == [22, 22, 6]


# Map-reduce ------------------------------------------------------------------------------------------------------


def test_map_reduce_summarizes_the_parts_and_then_their_joined_summaries():
    steps = played(prompt_for(document(sentences(12)), room(OVERHEAD + 22), Strategy.MAP_REDUCE))
    assert [len(step) for step in steps] == [3, 1]
    assert texts_of(steps[1]) == [SEPARATOR.join(["short one1", "short one2", "short one3"])]
    assert [call.is_last for step in steps for call in step] == [False, False, False, True]


def test_map_reduce_joins_summaries_again_where_one_prompt_does_not_hold_them():
    prompt = prompt_for(document(sentences(60)), room(OVERHEAD + 22), Strategy.MAP_REDUCE)
    steps = played(prompt, summary="a summary of six words ")
    assert [len(step) for step in steps] == [12, 4, 1, 1]
    assert all(len(call.token_ids) <= OVERHEAD + 22 for step in steps for call in step)


def test_a_summary_without_a_neighbour_is_carried_over_without_a_call():
    prompt = prompt_for(document(sentences(20)), room(OVERHEAD + 22), Strategy.MAP_REDUCE)
    assert len(prompt.first_calls) == 4
    steps = played(prompt, summary="a summary of six words ")
    assert [len(step) for step in steps] == [4, 1, 1]
    assert texts_of(steps[2])[0].endswith("\na summary of six words 4")


def test_map_reduce_ends_even_if_no_two_summaries_fit():
    prompt = prompt_for(document(sentences(60)), room(OVERHEAD + 22), Strategy.MAP_REDUCE)
    steps = played(prompt, summary="longer than was asked for " * 4)
    assert [len(step) for step in steps] == [12, 6, 3, 1, 1]


def test_empty_summaries_are_left_out_and_a_document_without_any_still_has_a_last_call():
    prompt = prompt_for(document(sentences(12)), room(OVERHEAD + 22), Strategy.MAP_REDUCE)
    calls = prompt.reading.calls()
    next(calls)
    assert texts_of(calls.send(["", "one", ""])) == ["one"]
    calls = prompt.reading.calls()
    next(calls)
    (last,) = calls.send(["", "", ""])
    assert last.is_last
    assert last.message == f"{INSTRUCTION}\n\n"


# Refine ----------------------------------------------------------------------------------------------------------


def test_refine_carries_the_summary_from_part_to_part():
    steps = played(prompt_for(document(sentences(17)), room(40), Strategy.REFINE))
    assert [texts_of(step) for step in steps] == [
        [sentences(9)],
        [f"{SO_FAR} short one1\n\n{GOES_ON} s9 w w end. s10 w w end. s11 w w end. s12 w w end."],
        [f"{SO_FAR} short one2\n\n{GOES_ON} s13 w w end. s14 w w end. s15 w w end. s16 w w end."],
    ]
    assert [step[0].is_last for step in steps] == [False, False, True]


def test_a_summary_that_leaves_no_room_for_the_next_part_loses_its_end():
    prompt = prompt_for(document(sentences(12)), room(40), Strategy.REFINE)
    calls = prompt.reading.calls()
    next(calls)
    (call,) = calls.send(["word " * 60])
    assert len(call.token_ids) == 40
    assert call.message.endswith(f"{GOES_ON} s9 w w end. s10 w w end. s11 w w end.")


# Bad input -------------------------------------------------------------------------------------------------------


def test_a_limit_that_holds_no_two_summaries_is_refused_for_map_reduce():
    needed = 2 * (5 + SPARE_TOKENS)
    text = document(sentences(40))
    assert prompt_for(text, room(OVERHEAD + needed, 5), Strategy.MAP_REDUCE).reading
    with pytest.raises(InputError) as raised:
        prompt_for(text, room(OVERHEAD + needed - 1, 5), Strategy.MAP_REDUCE)
    assert str(raised.value) == (
        "--long-documents map-reduce: a prompt of 28 tokens leaves 25 beside chat template and instruction, and two partial "
        "summaries of 5 tokens need 26; raise --max-prompt-tokens or lower --max-new-tokens"
    )


def test_a_limit_that_holds_no_summary_beside_a_part_is_refused_for_refine():
    with pytest.raises(InputError, match="--long-documents refine: a prompt of 20 tokens leaves 0 for the next part"):
        prompt_for(document(sentences(40)), room(20, 5), Strategy.REFINE)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("truncate", (Strategy.TRUNCATE,)),
        ("refine,map-reduce", (Strategy.MAP_REDUCE, Strategy.REFINE)),
        ("all", tuple(Strategy)),
        ("refine, refine", (Strategy.REFINE,)),
    ],
)
def test_strategies_are_named_with_commas(text, expected):
    assert strategies(text) == expected


@pytest.mark.parametrize("text", ["", "mapreduce", "refine,", "ALL"])
def test_another_strategy_is_refused(text):
    with pytest.raises(ArgumentTypeError, match="give truncate, map-reduce, refine or all"):
        strategies(text)
