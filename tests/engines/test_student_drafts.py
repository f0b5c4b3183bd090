"""A teacher that verifies its student's drafts: the tokens of plain decoding, and the facts about both models."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace
from types import SimpleNamespace

import pytest

from summarybench.catalogue.models import MODELS, student_draft_experiments
from summarybench.core.outcomes import UnavailableError
from summarybench.documents.sources import embedded_documents
from summarybench.engines.loading import load
from summarybench.engines.lookup import LookupCounts
from summarybench.engines.student_drafts import StudentDrafts, beside_student
from summarybench.engines.weights import find_weights
from summarybench.measure.generation import build_prompts
from tests.engines.test_loading import CPU, load_tiny
from tests.engines.test_lookup import LONGEST, NEW_TOKENS, generated

TEACHER = "smollm2-135m-instruct"
MOST_DRAFTS = 3
EXPERIMENT = replace(student_draft_experiments()[0], suffix="-small", draft_model="small")


def student_of(teacher, folder, layers, name="small"):
    """A folder with some of the teacher's layers, as layer pruning begins a student."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(teacher, trust_remote_code=False)
    model.model.layers = torch.nn.ModuleList(model.model.layers[number] for number in layers)
    model.config.num_hidden_layers = len(layers)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(teacher, trust_remote_code=False).save_pretrained(folder)
    provenance = {"schema": 1, "name": name, "teacher": {"name": TEACHER}, "architecture": "llama", "trained_on": []}
    (folder / "distillation.json").write_text(json.dumps(provenance))
    return folder


def named(loaded, model):
    return replace(loaded, experiment=replace(loaded.experiment, model=model))


@pytest.fixture(scope="module")
def teacher(tiny_llama):
    return load_tiny(tiny_llama, "default-draft")


@pytest.fixture(scope="module")
def student(tiny_llama, tmp_path_factory):
    folder = student_of(tiny_llama, tmp_path_factory.mktemp("small"), [0])
    return named(load_tiny(folder, "default-draft"), "small")


@pytest.fixture(scope="module")
def twin(tiny_llama):
    """A student that drafts exactly what its teacher would have written."""
    return named(load_tiny(tiny_llama, "default-draft"), "twin")


def test_teacher_writes_the_tokens_of_plain_decoding(teacher, student):
    engine = StudentDrafts(teacher, student, MOST_DRAFTS)
    assert generated(engine) == generated(teacher) == engine.summaries
    assert generated(engine) != generated(student)


def test_every_step_verifies_the_drafts_it_was_asked_for_until_the_end_is_near(teacher, student):
    engine = StudentDrafts(teacher, student, MOST_DRAFTS)
    tokens = len(generated(engine)[0])
    (counts,) = engine.counts
    assert tokens == NEW_TOKENS  # random weights find no end
    left_out = counts.steps * MOST_DRAFTS - counts.drafted
    assert 0 < left_out <= sum(range(1, MOST_DRAFTS + 1))  # the last steps have room for one draft less each
    assert counts.first_tokens + counts.steps <= tokens <= counts.first_tokens + counts.steps + counts.drafted


def test_a_student_that_is_always_right_has_all_drafts_accepted(teacher, twin):
    engine = StudentDrafts(teacher, twin, MOST_DRAFTS)
    assert generated(engine) == generated(teacher)
    (counts,) = engine.counts
    assert counts.first_tokens == MOST_DRAFTS + 1
    assert counts.first_tokens + counts.steps + counts.drafted == NEW_TOKENS
    assert counts.steps == -(-(NEW_TOKENS - counts.first_tokens) // (MOST_DRAFTS + 1))


def test_first_token_is_announced_once_and_hooks_are_gone_afterwards(teacher, student):
    seen = []
    generated(StudentDrafts(teacher, student, MOST_DRAFTS), on_first_token=lambda: seen.append(1))
    assert seen == [1]
    assert not teacher.model._forward_pre_hooks
    assert not student.model._forward_pre_hooks


def test_summary_of_one_token_takes_no_step_and_no_draft(teacher, student):
    engine = StudentDrafts(teacher, student, MOST_DRAFTS)
    generated(engine, new_tokens=1)
    assert engine.counts == [LookupCounts(first_tokens=1, steps=0, drafted=0)]


def test_settings_of_the_workload_name_the_student_and_its_weights(teacher, student):
    settings = beside_student(EXPERIMENT, teacher, student, LONGEST).settings
    assert (settings["drafts"], settings["draft_model"]) == ("student", "small")
    assert settings["draft_revision"] == student.weights.revision != teacher.weights.revision
    assert teacher.settings.items() <= settings.items()


def test_memory_of_both_models_is_predicted(teacher, student):
    both = beside_student(EXPERIMENT, teacher, student, LONGEST)
    assert both.experiment is EXPERIMENT
    alone, added = teacher.memory_for(LONGEST, 1), student.memory_for(LONGEST, 1)
    assert both.weights_bytes == teacher.weights_bytes + student.weights_bytes
    assert both.predicted_memory_bytes == alone.total_bytes + added.weights_bytes + added.cache_bytes
    assert added.workspace_bytes <= alone.workspace_bytes  # so that the teacher's counts
    assert both.weights_read_bytes == teacher.weights_read_bytes


def with_tokens(loaded, tokens, size=1_000):
    config = deepcopy(loaded.chat.config)
    config.vocab_size = size
    return replace(loaded, chat=SimpleNamespace(tokenizer=SimpleNamespace(get_vocab=lambda: tokens), config=config))


@pytest.mark.parametrize(
    ("tokens", "size", "said"),
    [
        ({"a": 0, "b": 2}, 1_000, "their tokenizers differ in 1 token;"),
        ({"a": 0}, 1_000, "their tokenizers differ in 1 token;"),
        ({"a": 1, "b": 0, "c": 2}, 1_000, "their tokenizers differ in 3 tokens;"),
        ({"a": 0, "b": 1}, 999, "it has embeddings for 999 tokens, and its teacher for 1000;"),
    ],
)
def test_student_with_other_tokens_is_refused_in_one_line(teacher, student, tokens, size, said):
    ours = with_tokens(teacher, {"a": 0, "b": 1})
    with pytest.raises(UnavailableError) as error:
        StudentDrafts(ours, with_tokens(student, tokens, size), MOST_DRAFTS)
    assert str(error.value).startswith(f"small cannot draft for {TEACHER}: {said}")
    assert "make distill" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.slow
@pytest.mark.parametrize("loader", ["default-draft", "4-bit-draft"])
def test_embedded_model_writes_the_same_summaries_with_drafts_of_its_own_layers(tmp_path, loader):
    """In float32 all tokens are the same. NF4 multiplies several tokens differently from one, and only ties may differ."""
    spec = MODELS[TEACHER]
    weights = find_weights(spec, {})
    experiment = next(each for each in student_draft_experiments() if each.name == f"{TEACHER}-{loader}")

    def loaded_from(found, model):
        return load(
            replace(experiment, model=model),
            lambda: found,
            CPU,
            CPU.clock(),
            longest_sequence=lambda chat: 300,
            predict=False,
        )

    folder = student_of(weights.location, tmp_path, [*range(14), *range(17, 30)])
    real, small = loaded_from(weights, TEACHER), loaded_from(find_weights(spec, {TEACHER: folder}), TEACHER)
    engine = StudentDrafts(real, named(small, "small"), 2)
    (prompt,) = build_prompts(real.chat, embedded_documents().documents[:1], 200, NEW_TOKENS)
    (expected,), (found,) = generated(real, prompt.token_ids), generated(engine, prompt.token_ids)
    assert engine.counts[0].steps < len(expected) - 1
    if loader == "default-draft":
        assert found == expected
    else:
        from summarybench.measure.lookup import MOST_SPACINGS_OF_A_TIE, dtype_of, tie_spacings

        spacings = tie_spacings(real, [prompt], [found], [expected], dtype_of(real.settings))
        assert all(each <= MOST_SPACINGS_OF_A_TIE for each in spacings)
