"""The loss, its batches, batched generation, and what happens when memory runs out or the loss is no number."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from distillation.generate import Sampling, Writer, is_compiled_for
from distillation.opening import load_weights, open_teacher
from distillation.settings import parse_settings
from distillation.student import check_layers, chosen_layers, initial_student, open_smaller
from distillation.trainer import (
    IGNORED,
    Collator,
    DistillationTrainer,
    GroupedByLength,
    compile_layers,
    compiled_token_losses,
    divergence,
    examples_of,
    hidden_error,
    last_whole_checkpoint,
    micro_batch_of,
    repeated,
    token_losses,
    total_steps,
    train,
)
from summarybench.core.outcomes import DeviceMemoryError, InputError, JudgementError
from summarybench.engines.graph_decoder import CompiledDecoder
from summarybench.machine.cpu_device import CpuDevice

CPU = CpuDevice(kind="cpu", name="cpu", slug="cpu", family="cpu", memory_bytes=2**34, compute_dtype="float32")
TEACHER = "smollm2-135m-instruct"
PROMPT, ANSWER = [5, 6, 7], [8, 9]


def settings_of(*arguments):
    return parse_settings(["--teacher", TEACHER, "--layers", "1", "--out", "students/small", *arguments])


def example(role="training", prompt=PROMPT, answer=ANSWER):
    return {"role": role, "dropped": "", "prompt_ids": prompt, "output_ids": answer, "reference": "So it is."}


ROWS = [example(prompt=[5 + number, 6, 7], answer=[20 + number, 21, 0]) for number in range(8)] + [
    example("validation")
]


@pytest.fixture(scope="module")
def teacher(tiny_llama):
    return open_teacher(TEACHER, {TEACHER: tiny_llama})


@pytest.fixture
def tiny(tiny_llama):
    return load_weights(tiny_llama, "float32", "cpu", local_files_only=True)


def train_tiny(folder, tiny_llama, settings, rows=ROWS, said=None):
    return train(
        folder,
        rows,
        settings,
        CPU,
        dtype="float32",
        open_student=lambda: load_weights(tiny_llama, "float32", "cpu", local_files_only=True),
        teacher=load_weights(tiny_llama, "float32", "cpu", local_files_only=True),
        layers=(0, 1),
        decode=lambda _: "So it is.",
        pad=0,
        processes=1,
        say=[].append if said is None else said.append,
    )


# Batches and the loss --------------------------------------------------------------------------------------------


def test_labels_are_the_answer_alone_and_logits_are_kept_from_the_token_before_the_first():
    batch = Collator(0, 0.0)([example(), example(prompt=[5, 6], answer=[3])])
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8, 9], [5, 6, 3, 0, 0]]
    assert batch["labels"].tolist() == [[IGNORED, IGNORED, 8, 9], [IGNORED, 3, IGNORED, IGNORED]]
    assert batch["loss_weights"].tolist() == [[0.0, 0.0, 1.0, 1.0], [0.0, 1.0, 0.0, 0.0]]


def test_prompt_weight_makes_labels_of_the_prompt_too_but_not_of_its_first_token():
    batch = Collator(0, 0.25)([example(), example(prompt=[4], answer=[3])])
    assert batch["labels"].tolist() == [[IGNORED, 6, 7, 8, 9], [IGNORED, 3, IGNORED, IGNORED, IGNORED]]
    assert batch["loss_weights"].tolist() == [[0.0, 0.25, 0.25, 1.0, 1.0], [0.0, 1.0, 0.0, 0.0, 0.0]]


def test_batches_are_of_like_length_in_an_order_of_seed_and_epoch_alone():
    lengths = [1 + 37 * number % 101 for number in range(400)]

    def order(seed, epoch):
        sampler = GroupedByLength(4, lengths, seed)
        sampler.set_epoch(epoch)
        torch.rand(7)
        return list(sampler)

    def padding(indices):
        batches = [[lengths[index] for index in indices[start : start + 4]] for start in range(0, len(indices), 4)]
        return sum(max(batch) * len(batch) for batch in batches) / sum(lengths) - 1

    assert sorted(order(0, 0)) == list(range(400))
    assert padding(order(0, 0)) < 0.05 < padding(range(400))
    assert order(0, 3) == order(0, 3)
    assert len({tuple(order(seed, epoch)) for seed, epoch in ((0, 0), (0, 1), (2, 0))}) == 3


def test_divergence_of_a_known_pair():
    teacher, student = torch.tensor([[math.log(3.0), 0.0]]), torch.zeros(1, 2)
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert divergence(teacher, student, 1.0).item() == pytest.approx(expected)
    assert divergence(2 * teacher, student, 2.0).item() == pytest.approx(4 * expected)


def test_reverse_divergence_is_the_students_from_the_teacher():
    """What the student says and the teacher hardly would costs more than what the teacher says and the student does not."""
    teacher = torch.tensor([[[math.log(98.0), math.log(1.0), math.log(1.0)]]])
    student = torch.tensor([[[math.log(49.0), math.log(49.0), math.log(2.0)]]])
    reverse = 0.49 * math.log(0.49 / 0.98) + 0.49 * math.log(0.49 / 0.01) + 0.02 * math.log(0.02 / 0.01)
    forward = 0.98 * math.log(0.98 / 0.49) + 0.01 * math.log(0.01 / 0.49) + 0.01 * math.log(0.01 / 0.02)
    labels = torch.tensor([[0]])

    def loss(forward_weight, reverse_weight):
        weights = ("--ce-weight", "0", "--kl-weight", forward_weight, "--reverse-kl-weight", reverse_weight)
        return token_losses(settings_of(*weights), student, teacher, labels, torch.tensor([[False]])).item()

    assert loss("0", "1") == pytest.approx(reverse)
    assert loss("2", "0.5") == pytest.approx(2 * forward + 0.5 * reverse)
    assert reverse > 2 * forward


def test_reverse_divergence_alone_needs_the_teacher_and_teaches(tiny):
    student = copy.deepcopy(tiny)
    with torch.no_grad():
        student.lm_head.weight += 0.1
        student.lm_head.weight[0] -= 1.0
    settings = settings_of("--ce-weight", "0", "--kl-weight", "0", "--reverse-kl-weight", "1")
    assert settings.needs_teacher
    batch = Collator(0, 0.0)([example()])
    assert loss_of(student, settings, tiny, batch) > 1e-3
    assert loss_of(tiny, settings, tiny, batch) == pytest.approx(0.0, abs=1e-6)


def test_tokens_repeat_where_eight_in_a_row_were_there_before():
    once, other = list(range(10, 19)), [3, 4]
    assert repeated([*once, *other, *once]) == [False] * 11 + [True] * 9
    assert not any(repeated([*once[:7], *other, *once[:7]]))
    assert repeated([5, 6] * 6) == [False] * 2 + [True] * 10
    assert repeated([]) == []


def test_collator_marks_what_the_answer_repeats_and_not_what_it_takes_from_its_prompt():
    said = list(range(10, 18))
    batch = Collator(0, 0.25)([example(prompt=said, answer=[*said, *said]), example()])
    assert batch["repeats"].tolist() == [[False] * 16 + [True] * 8, [False] * 24]
    assert Collator(0, 0.0)([example(prompt=said, answer=[*said, *said])])["repeats"].tolist() == [
        [False] * 9 + [True] * 8
    ]


def test_what_repeats_is_unlearned_by_its_unlikelihood_and_the_rest_is_learnt_as_before():
    logits = torch.tensor([[[math.log(3.0), 0.0], [math.log(3.0), 0.0], [math.log(3.0), 0.0]]], requires_grad=True)
    labels, repeats = torch.tensor([[0, 0, IGNORED]]), torch.tensor([[False, True, False]])
    settings = settings_of("--kl-weight", "0", "--unlikelihood-weight", "2")
    losses = token_losses(settings, logits, None, labels, repeats)
    assert losses[0, :2].tolist() == pytest.approx([-math.log(0.75), -2 * math.log(0.25)])
    losses[0, :2].sum().backward()
    assert logits.grad[0, :, 0].tolist() == pytest.approx([-0.25, 2 * 0.75, 0.0])
    plain = token_losses(settings_of("--kl-weight", "0"), logits, None, labels, repeats)
    assert plain[0, :2].tolist() == pytest.approx([-math.log(0.75)] * 2)


def test_unlikelihood_of_a_certain_token_is_finite_and_so_is_its_gradient():
    logits = torch.tensor([[[90.0, 0.0]]], requires_grad=True)
    settings = settings_of("--kl-weight", "0", "--unlikelihood-weight", "1")
    loss = token_losses(settings, logits, None, torch.tensor([[0]]), torch.tensor([[True]])).sum()
    loss.backward()
    assert 10 < loss.item() < 20
    assert torch.isfinite(logits.grad).all()


def test_own_texts_that_repeat_are_learnt_from_where_repeating_is_unlearned():
    rows = [example(), {**example(), "dropped": "repeating"}, {**example(), "dropped": "empty"}]
    own = ("--student-from", "x", "--own-summaries", "--ce-weight", "0")

    def kept(*arguments):
        settings = parse_settings(["--teacher", TEACHER, "--out", "students/small", *arguments])
        return [each["dropped"] for each in examples_of(rows, "training", settings)]

    assert kept(*own) == kept("--layers", "1", "--unlikelihood-weight", "1") == [""]
    assert kept(*own, "--unlikelihood-weight", "1") == ["", "repeating"]


def compute_loss(model, settings, teacher, batch, layers=(), losses=None):
    trainer = SimpleNamespace(
        _settings=settings,
        _teacher=teacher,
        _layers=layers,
        _token_losses=partial(token_losses, settings) if losses is None else losses,
        args=SimpleNamespace(average_tokens_across_devices=False),
        state=SimpleNamespace(global_step=0),
        _check_last_loss=lambda: None,
    )
    return DistillationTrainer.compute_loss(trainer, model, batch)


def loss_of(model, settings, teacher, batch, layers=()):
    return compute_loss(model, settings, teacher, batch, layers).item()


def test_loss_of_padded_rows_is_that_of_the_same_rows_alone(tiny):
    long, short = example(), example(prompt=[4], answer=[3])
    alone = [loss_of(tiny, settings_of("--kl-weight", "0"), None, Collator(0, 0.0)([each])) for each in (long, short)]
    both = loss_of(tiny, settings_of("--kl-weight", "0"), None, Collator(0, 0.0)([long, short]))
    assert both == pytest.approx((2 * alone[0] + alone[1]) / 3, rel=1e-5)


def test_student_that_is_its_teacher_has_no_divergence(tiny):
    batch = Collator(0, 0.0)([example()])
    assert loss_of(tiny, settings_of("--ce-weight", "0"), tiny, batch) == pytest.approx(0.0, abs=1e-6)


def test_hidden_error_is_relative_to_what_the_next_kept_layer_is_given():
    """Layers 0 and 3 of four: the first hands on what the teacher gives to its layer 3, the last what is normed at the end."""
    teacher = [torch.full((1, 2, 4), float(number)) for number in (9, 9, 9, 2, 5)]
    student = [torch.full((1, 2, 4), float(number)) for number in (7, 3, 5)]
    torch.testing.assert_close(
        hidden_error(student, teacher, (0, 3)), torch.full((1, 2), ((3 - 2) ** 2 / 2**2 + 0) / 2)
    )


def test_hidden_states_of_a_student_that_is_its_teacher_are_its_teachers(tiny):
    """The library's: embedded tokens first, the last one normed, for student and teacher alike."""
    batch = Collator(0, 0.25)([example(), example(prompt=[4], answer=[3])])
    settings = settings_of("--ce-weight", "0", "--hidden-weight", "1", "--prompt-weight", "0.25")
    assert loss_of(tiny.train(), settings, tiny, batch, (0, 1)) == pytest.approx(0.0, abs=1e-6)


def test_hidden_error_adds_to_the_training_loss_and_not_to_the_validation_loss(teacher, tiny):
    student, layers = initial_student(teacher, (0,), None), (0,)
    batch = Collator(0, 0.0)([example(), example(prompt=[4], answer=[3])])
    validation = [
        loss_of(student.eval(), settings_of("--hidden-weight", weight), tiny, batch, layers) for weight in "02"
    ]
    training = [
        loss_of(student.train(), settings_of("--hidden-weight", weight), tiny, batch, layers) for weight in "012"
    ]
    assert validation[0] == validation[1] == training[0]
    assert training[2] - training[1] == pytest.approx(training[1] - training[0], rel=1e-4)
    assert training[1] > training[0]


WARM = settings_of(
    "--prompt-weight", "0.25", "--temperature", "2", "--reverse-kl-weight", "0.5", "--unlikelihood-weight", "0.5"
)
ROUND_IN_CIRCLES = [8, 9, 10] * 4


@pytest.fixture
def loss_and_gradient(tiny, monkeypatch):
    """Of a student that differs from its teacher, in so many tokens at once or by another function."""
    teacher = copy.deepcopy(tiny)
    with torch.no_grad():
        tiny.lm_head.weight += 0.1 * torch.randn(tiny.lm_head.weight.shape, generator=torch.Generator().manual_seed(0))

    def found(tokens_at_once=1000, losses=None, examples=5):
        batch = Collator(0, 0.25)(
            [example(prompt=[4 + number, 6, 7], answer=ROUND_IN_CIRCLES) for number in range(examples)]
        )
        monkeypatch.setattr("distillation.trainer.TOKENS_AT_ONCE", tokens_at_once)
        tiny.zero_grad()
        loss = compute_loss(tiny, WARM, teacher, batch, losses=losses)
        loss.backward()
        return loss.item(), torch.cat([each.grad.flatten() for each in tiny.parameters()])

    return found


def test_loss_and_gradient_are_the_same_in_parts_and_at_once(loss_and_gradient):
    (at_once, whole), (in_parts, parts) = loss_and_gradient(), loss_and_gradient(2 * 15)
    assert in_parts == pytest.approx(at_once, rel=1e-6)
    assert whole.abs().max() > 0
    torch.testing.assert_close(parts, whole)


@pytest.mark.slow
def test_loss_and_gradient_are_the_same_compiled_for_batches_of_any_size(loss_and_gradient, tiny):
    compiled_losses = compiled_token_losses(WARM)
    compile_layers(tiny)
    for examples in (5, 3, 8):
        with torch.compiler.set_stance("force_eager"):
            plain, expected = loss_and_gradient(examples=examples)
        compiled, found = loss_and_gradient(losses=compiled_losses, examples=examples)
        assert compiled == pytest.approx(plain, rel=1e-5)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


# Training --------------------------------------------------------------------------------------------------------


def test_steps_follow_from_epochs_unless_they_are_given():
    assert total_steps(33, settings_of("--epochs", "3", "--batch-size", "16")) == 9
    assert total_steps(33, settings_of("--steps", "4")) == 4


def test_micro_batch_divides_what_a_device_takes_of_a_step():
    assert micro_batch_of(settings_of("--batch-size", "12", "--micro-batch", "5"), CPU, 1) == 4
    with pytest.raises(InputError, match="cannot be shared by 2 processes"):
        micro_batch_of(settings_of("--batch-size", "3"), CPU, 2)


def test_out_of_memory_halves_the_micro_batch_and_keeps_the_step(tmp_path, tiny_llama, monkeypatch):
    sizes, said = [], []
    whole = DistillationTrainer.training_step

    def at_most_two(self, model, inputs, *more):
        sizes.append(len(inputs["labels"]))
        if len(inputs["labels"]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return whole(self, model, inputs, *more)

    monkeypatch.setattr(DistillationTrainer, "training_step", at_most_two)
    settings = settings_of("--steps", "2", "--batch-size", "8", "--micro-batch", "8", "--evaluations", "1")
    _, told = train_tiny(tmp_path, tiny_llama, settings, said=said)
    assert sizes == [8, 4, *[2] * 8]  # two steps of four micro-batches: eight examples a step, as before
    assert (told["steps"], told["micro_batch"]) == (2, 2)
    assert "on with 4, 8 a step as before" in said[0]


def test_out_of_memory_with_one_example_ends_in_one_line(tmp_path, tiny_llama, monkeypatch):
    def never(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(DistillationTrainer, "training_step", never)
    with pytest.raises(
        DeviceMemoryError, match=r"micro-batch of 1: asked for 2\.00 GiB; give a shorter --max-prompt-tokens"
    ):
        train_tiny(tmp_path, tiny_llama, settings_of("--steps", "1", "--batch-size", "2"))


def test_loss_that_is_no_number_stops_with_what_to_change(tmp_path, tiny_llama, monkeypatch):
    monkeypatch.setattr("distillation.trainer.divergence", lambda *_: torch.tensor(float("nan")))
    with pytest.raises(JudgementError, match="the loss is nan after step 0: lower --learning-rate"):
        train_tiny(tmp_path, tiny_llama, settings_of("--steps", "1", "--batch-size", "2"))


def test_training_stops_early_and_keeps_the_best(tmp_path, tiny_llama):
    settings = settings_of(
        "--steps", "20", "--evaluations", "20", "--batch-size", "2", "--patience", "1", "--learning-rate", "0.5"
    )
    _, told = train_tiny(tmp_path, tiny_llama, settings)
    assert told["steps"] < 20
    assert told["best_step"] < told["steps"]


def test_summaries_that_say_little_of_their_texts_are_not_learnt_from_and_other_texts_are():
    def row(task, output):
        return example() | {"task": task, "text": "Stir the soup, then serve it.", "output": output}

    rows = [row("summarize", "Stir the soup."), row("summarize", "A fine text."), row("rewrite", "A fine text.")]
    assert examples_of(rows, "training", settings_of()) == rows
    assert examples_of(rows, "training", settings_of("--least-overlap", "99%")) == [rows[0], rows[2]]
    assert examples_of(rows, "validation", settings_of()) == []


def test_texts_that_were_cut_at_their_longest_are_learnt_from_unless_that_is_asked_not_to_be():
    rows = [
        example() | {"hit_cap": hit_cap, "task": task} for task in ("summarize", "rewrite") for hit_cap in (False, True)
    ]
    assert examples_of(rows, "training", settings_of()) == rows
    assert examples_of(rows, "training", settings_of("--finished-only")) == [rows[0], rows[2]]


@pytest.mark.parametrize(
    ("change", "options", "named"),
    [
        ({"dropped": "empty"}, (), r"\(the rest is empty or repeating\)"),
        ({"hit_cap": True}, ("--finished-only",), r"or repeating, or cut at their longest \(--finished-only\)"),
    ],
)
def test_nothing_left_to_learn_from_is_one_line(tmp_path, tiny_llama, change, options, named):
    rows = [{**each, **change} for each in ROWS]
    with pytest.raises(InputError, match=f"0 texts to train on and 0 to validate are left .*{named}"):
        train_tiny(tmp_path, tiny_llama, settings_of("--steps", "1", *options), rows)


def test_checkpoint_that_was_cut_off_is_passed_over(tmp_path):
    for number, text in ((2, json.dumps({"global_step": 2})), (10, '{"glo'), (12, None)):
        (tmp_path / f"checkpoint-{number}").mkdir()
        if text is not None:
            (tmp_path / f"checkpoint-{number}" / "trainer_state.json").write_text(text)
    assert last_whole_checkpoint(tmp_path) == tmp_path / "checkpoint-2"


# Teacher and student ---------------------------------------------------------------------------------------------


@pytest.fixture(params=["transformers", "compiled"])
def writer(request, tiny, monkeypatch):
    """Answers three prompts at a time, of 24 tokens with their answers."""
    monkeypatch.setattr("summarybench.engines.graph_decoder.compile_with_inductor", lambda rows: lambda piece: piece)
    monkeypatch.setattr("distillation.generate.is_compiled_for", lambda device: request.param == "compiled")
    yield Writer(tiny, CPU, 3, 24)
    tiny.set_attn_implementation("sdpa")


def test_batch_answers_as_its_prompts_do_alone(writer, tiny):
    prompts = [[5, 6, 7, 8], [9], [10, 11], [12, 13, 14]]
    together = writer.answer(prompts, 6)
    tiny.set_attn_implementation("sdpa")
    assert together == [Writer(tiny, CPU, 1).answer([prompt], 6)[0] for prompt in prompts]


def test_samples_differ_by_seed_and_by_nothing_else(writer):
    def sample(seed):
        return writer.answer([[5, 6, 7]] * 5, 8, Sampling(temperature=1.0, seed=seed))

    assert sample(1) == sample(1)
    assert sample(1) != sample(2)
    assert len({tuple(answer) for answer in sample(1)}) == 5, "the second batch draws anew"


def test_batch_that_does_not_fit_is_halved_and_later_ones_are_no_larger(writer, tiny, monkeypatch):
    sizes = []
    for where, whole in ((type(tiny), type(tiny).generate), (CompiledDecoder, CompiledDecoder.generate)):

        def at_most_one(self, ids, *arguments, whole=whole, **options):
            sizes.append(len(ids))
            if len(ids) > 1:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            return whole(self, ids, *arguments, **options)

        monkeypatch.setattr(where, "generate", at_most_one)
    assert len(writer.answer([[5], [6], [7]], 2)) == 3
    assert sizes == [3, 1, 1, 1]
    assert len(writer.answer([[8], [9]], 2)) == 2
    assert sizes == [3, 1, 1, 1, 1, 1]


def test_gpus_that_multiply_bfloat16_alone_are_compiled_for():
    t4 = replace(CPU, kind="cuda", compute_dtype="float16")
    assert [is_compiled_for(device) for device in (CPU, t4, replace(t4, compute_dtype="bfloat16"))] == [
        False,
        False,
        True,
    ]


def test_student_has_the_teachers_own_layers(teacher, tiny):
    student = initial_student(teacher, (0,), None)
    ours, theirs = student.state_dict(), tiny.state_dict()
    assert len(ours) < len(theirs)
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


def test_layers_that_do_nothing_are_not_kept(tiny):
    """Of six, three whose output is what they were given; no others can be dropped for nothing."""
    config = copy.deepcopy(tiny.config)
    config.num_hidden_layers, config.layer_types = 6, None
    torch.manual_seed(1)
    model = type(tiny)(config).eval()
    for layer in (0, 3, 4):
        model.model.layers[layer].self_attn.o_proj.weight.data.zero_()
        model.model.layers[layer].mlp.down_proj.weight.data.zero_()
    kept, nats = chosen_layers(model, ROWS, 3)
    assert kept == (1, 2, 5)
    assert nats == pytest.approx(0.0, abs=1e-6)
    fewer, more_nats = chosen_layers(model, ROWS, 2)
    assert set(fewer) < {1, 2, 5}
    assert more_nats > 1e-4
    assert len(model.model.layers) == 6


def test_as_many_layers_as_the_teacher_has_are_refused(teacher):
    with pytest.raises(InputError, match=f"--layers 2: {TEACHER} has 2, and a student is to have fewer"):
        check_layers(teacher, 2)


def test_student_of_another_tokenizer_is_refused(teacher, tiny_llama, tmp_path):
    for path in tiny_llama.iterdir():
        text = path.read_bytes()
        if path.name == "tokenizer.json":
            vocabulary = json.loads(text)
            vocabulary["model"]["vocab"] = {
                token.replace("Ġthe", "Ġeth"): number for token, number in vocabulary["model"]["vocab"].items()
            }
            vocabulary["model"]["merges"] = []
            text = json.dumps(vocabulary).encode()
        (tmp_path / path.name).write_bytes(text)
    with pytest.raises(InputError, match="its tokenizer is not that of"):
        open_smaller(tmp_path, teacher)


def test_smaller_model_of_the_same_tokenizer_is_taken(teacher, tiny_llama):
    assert open_smaller(tiny_llama, teacher).config.num_hidden_layers == 2


def test_folder_without_a_model_is_no_student_to_begin_with(teacher, tmp_path):
    with pytest.raises(InputError, match="holds no config"):
        open_smaller(tmp_path, teacher)
