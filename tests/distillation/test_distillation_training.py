"""The loss, its batches, training, batched generation, and the handling of full memory and a loss that is not finite."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import replace

import pytest
import torch

from distillation.examples import repeated_tokens, select_examples
from distillation.generation import BatchGenerator, Sampling, is_compiled_for
from distillation.layers import check_layers, choose_layers
from distillation.loading import find_teacher, load_weights
from distillation.losses import (
    DistillationLoss,
    compile_layers,
    compiled_token_losses,
    divergence,
    hidden_error,
    split_token_losses,
)
from distillation.options import parse_settings
from distillation.schedule import micro_batch_size, total_steps
from distillation.student import check_starting_model, untrained_student
from distillation.trainer import DistillationTrainer
from distillation.training import TrainingRun, last_complete_checkpoint, train
from distillation.training_batches import IGNORED, Collator, SimilarLengthSampler
from summarybench.core.outcomes import DeviceMemoryError, InputError, JudgementError
from summarybench.engines.graph_decoder import CompiledDecoder
from summarybench.machine.cpu_device import CpuDevice
from summarybench.machine.cuda_device import CudaDevice

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
    return find_teacher(TEACHER, {TEACHER: tiny_llama})


@pytest.fixture
def tiny(tiny_llama):
    return load_weights(tiny_llama, "float32", "cpu")


def train_tiny(folder, tiny_llama, settings, rows=ROWS, said=None):
    run = TrainingRun(
        checkpoints=folder,
        rows=rows,
        settings=settings,
        device=CPU,
        dtype="float32",
        load_student=lambda: load_weights(tiny_llama, "float32", "cpu"),
        teacher=load_weights(tiny_llama, "float32", "cpu"),
        layers=(0, 1),
        decode=lambda _: "So it is.",
        processes=1,
        say=[].append if said is None else said.append,
    )
    return train(run)


# Batches and the loss --------------------------------------------------------------------------------------------


def test_labels_are_the_summary_alone_and_start_one_token_after_the_first_kept():
    batch = Collator(0.0)([example(), example(prompt=[5, 6], answer=[3])])
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8, 9], [5, 6, 3, 0, 0]]
    assert batch["labels"].tolist() == [[IGNORED, IGNORED, 8, 9], [IGNORED, 3, IGNORED, IGNORED]]
    assert batch["loss_weights"].tolist() == [[0.0, 0.0, 1.0, 1.0], [0.0, 1.0, 0.0, 0.0]]


def test_prompt_weight_adds_labels_for_all_prompt_tokens_but_the_first():
    batch = Collator(0.25)([example(), example(prompt=[4], answer=[3])])
    assert batch["labels"].tolist() == [[IGNORED, 6, 7, 8, 9], [IGNORED, 3, IGNORED, IGNORED, IGNORED]]
    assert batch["loss_weights"].tolist() == [[0.0, 0.25, 0.25, 1.0, 1.0], [0.0, 1.0, 0.0, 0.0, 0.0]]


def test_batches_have_similar_lengths_in_an_order_of_seed_and_epoch_alone():
    lengths = [1 + 37 * number % 101 for number in range(400)]

    def order(seed, epoch):
        sampler = SimilarLengthSampler(4, lengths, seed)
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


def test_reverse_divergence_is_from_student_to_teacher():
    """A token that only the student finds likely costs more than a token that only the teacher finds likely."""
    teacher = torch.tensor([[[math.log(98.0), math.log(1.0), math.log(1.0)]]])
    student = torch.tensor([[[math.log(49.0), math.log(49.0), math.log(2.0)]]])
    reverse = 0.49 * math.log(0.49 / 0.98) + 0.49 * math.log(0.49 / 0.01) + 0.02 * math.log(0.02 / 0.01)
    forward = 0.98 * math.log(0.98 / 0.49) + 0.01 * math.log(0.01 / 0.49) + 0.01 * math.log(0.01 / 0.02)
    labels = torch.tensor([[0]])

    def loss(forward_weight, reverse_weight):
        weights = ("--ce-weight", "0", "--kl-weight", forward_weight, "--reverse-kl-weight", reverse_weight)
        return split_token_losses(settings_of(*weights), student, teacher, labels, torch.tensor([[False]])).item()

    assert loss("0", "1") == pytest.approx(reverse)
    assert loss("2", "0.5") == pytest.approx(2 * forward + 0.5 * reverse)
    assert reverse > 2 * forward


def test_reverse_divergence_alone_runs_the_teacher_and_has_a_loss(tiny):
    student = copy.deepcopy(tiny)
    with torch.no_grad():
        student.lm_head.weight += 0.1
        student.lm_head.weight[0] -= 1.0
    settings = settings_of("--ce-weight", "0", "--kl-weight", "0", "--reverse-kl-weight", "1")
    assert settings.needs_teacher
    batch = Collator(0.0)([example()])
    assert loss_of(student, settings, tiny, batch) > 1e-3
    assert loss_of(tiny, settings, tiny, batch) == pytest.approx(0.0, abs=1e-6)


def test_tokens_repeat_in_sequences_of_eight_that_occurred_before():
    once, other = list(range(10, 19)), [3, 4]
    assert repeated_tokens([*once, *other, *once]) == [False] * 11 + [True] * 9
    assert not any(repeated_tokens([*once[:7], *other, *once[:7]]))
    assert repeated_tokens([5, 6] * 6) == [False] * 2 + [True] * 10
    assert repeated_tokens([]) == []


def test_collator_marks_repetition_within_the_summary_but_not_of_the_prompt():
    said = list(range(10, 18))
    batch = Collator(0.25)([example(prompt=said, answer=[*said, *said]), example()])
    assert batch["repeats"].tolist() == [[False] * 16 + [True] * 8, [False] * 24]
    assert Collator(0.0)([example(prompt=said, answer=[*said, *said])])["repeats"].tolist() == [
        [False] * 9 + [True] * 8
    ]


def test_repeated_tokens_have_the_unlikelihood_loss_and_others_the_usual_loss():
    logits = torch.tensor([[[math.log(3.0), 0.0], [math.log(3.0), 0.0], [math.log(3.0), 0.0]]], requires_grad=True)
    labels, repeats = torch.tensor([[0, 0, IGNORED]]), torch.tensor([[False, True, False]])
    settings = settings_of("--kl-weight", "0", "--unlikelihood-weight", "2")
    losses = split_token_losses(settings, logits, None, labels, repeats)
    assert losses[0, :2].tolist() == pytest.approx([-math.log(0.75), -2 * math.log(0.25)])
    losses[0, :2].sum().backward()
    assert logits.grad[0, :, 0].tolist() == pytest.approx([-0.25, 2 * 0.75, 0.0])
    plain = split_token_losses(settings_of("--kl-weight", "0"), logits, None, labels, repeats)
    assert plain[0, :2].tolist() == pytest.approx([-math.log(0.75)] * 2)


def test_unlikelihood_of_a_certain_token_and_its_gradient_are_finite():
    logits = torch.tensor([[[90.0, 0.0]]], requires_grad=True)
    settings = settings_of("--kl-weight", "0", "--unlikelihood-weight", "1")
    loss = split_token_losses(settings, logits, None, torch.tensor([[0]]), torch.tensor([[True]])).sum()
    loss.backward()
    assert 10 < loss.item() < 20
    assert torch.isfinite(logits.grad).all()


def test_repeating_own_texts_are_examples_with_unlikelihood():
    rows = [example(), {**example(), "dropped": "repeating"}, {**example(), "dropped": "empty"}]
    own = ("--student-from", "x", "--own-summaries", "--ce-weight", "0")

    def kept(*arguments):
        settings = parse_settings(["--teacher", TEACHER, "--out", "students/small", *arguments])
        return [each["dropped"] for each in select_examples(rows, "training", settings)]

    assert kept(*own) == kept("--layers", "1", "--unlikelihood-weight", "1") == [""]
    assert kept(*own, "--unlikelihood-weight", "1") == ["", "repeating"]


def loss_of(model, settings, teacher, batch, layers=()):
    return DistillationLoss(settings, teacher, layers)(model, batch).item()


def test_padding_does_not_change_the_loss(tiny):
    long, short = example(), example(prompt=[4], answer=[3])
    alone = [loss_of(tiny, settings_of("--kl-weight", "0"), None, Collator(0.0)([each])) for each in (long, short)]
    both = loss_of(tiny, settings_of("--kl-weight", "0"), None, Collator(0.0)([long, short]))
    assert both == pytest.approx((2 * alone[0] + alone[1]) / 3, rel=1e-5)


def test_student_equal_to_its_teacher_has_no_divergence(tiny):
    batch = Collator(0.0)([example()])
    assert loss_of(tiny, settings_of("--ce-weight", "0"), tiny, batch) == pytest.approx(0.0, abs=1e-6)


def test_hidden_error_is_relative_to_the_input_of_the_next_kept_layer():
    """Of layers 0 and 3 of four, the first is compared with the input of layer 3, the last with the final norm's output."""
    teacher = [torch.full((1, 2, 4), float(number)) for number in (9, 9, 9, 2, 5)]
    student = [torch.full((1, 2, 4), float(number)) for number in (7, 3, 5)]
    torch.testing.assert_close(
        hidden_error(student, teacher, (0, 3)), torch.full((1, 2), ((3 - 2) ** 2 / 2**2 + 0) / 2)
    )


def test_student_equal_to_its_teacher_has_no_hidden_error(tiny):
    """Transformers' hidden states start with the embedded tokens and end after the final norm, for both models."""
    batch = Collator(0.25)([example(), example(prompt=[4], answer=[3])])
    settings = settings_of("--ce-weight", "0", "--hidden-weight", "1", "--prompt-weight", "0.25")
    assert loss_of(tiny.train(), settings, tiny, batch, (0, 1)) == pytest.approx(0.0, abs=1e-6)


def test_hidden_error_adds_to_the_training_loss_and_not_to_the_validation_loss(teacher, tiny):
    student, layers = untrained_student(teacher, (0,), None), (0,)
    batch = Collator(0.0)([example(), example(prompt=[4], answer=[3])])
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
    """A function that computes both for a student unlike its teacher, with so many tokens at once or other token losses."""
    teacher = copy.deepcopy(tiny)
    with torch.no_grad():
        tiny.lm_head.weight += 0.1 * torch.randn(tiny.lm_head.weight.shape, generator=torch.Generator().manual_seed(0))

    def found(tokens_at_once=1000, losses=None, examples=5):
        batch = Collator(0.25)(
            [example(prompt=[4 + number, 6, 7], answer=ROUND_IN_CIRCLES) for number in range(examples)]
        )
        monkeypatch.setattr("distillation.losses.TOKENS_AT_ONCE", tokens_at_once)
        tiny.zero_grad()
        loss = DistillationLoss(WARM, teacher, (), losses)(tiny, batch)
        loss.backward()
        return loss.item(), torch.cat([each.grad.flatten() for each in tiny.parameters()])

    return found


def test_loss_and_gradient_are_the_same_in_parts_and_at_once(loss_and_gradient):
    (at_once, whole), (in_parts, parts) = loss_and_gradient(), loss_and_gradient(2 * 15)
    assert in_parts == pytest.approx(at_once, rel=1e-6)
    assert whole.abs().max() > 0
    torch.testing.assert_close(parts, whole)


@pytest.mark.slow
def test_compiled_loss_and_gradient_equal_eager_ones_for_any_batch_size(loss_and_gradient, tiny):
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


def test_micro_batch_divides_the_share_of_a_device():
    assert micro_batch_size(settings_of("--batch-size", "12", "--micro-batch", "5"), CPU, 1) == 4
    with pytest.raises(InputError, match="must be a multiple of the 2 processes"):
        micro_batch_size(settings_of("--batch-size", "3"), CPU, 2)


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
    _, facts = train_tiny(tmp_path, tiny_llama, settings, said=said)
    assert sizes == [8, 4, *[2] * 8]  # two steps of four micro-batches: eight examples a step, as before
    assert (facts["steps"], facts["micro_batch"]) == (2, 2)
    assert "continuing with 4, still 8 examples per step" in said[0]


def test_out_of_memory_with_one_example_ends_in_one_line(tmp_path, tiny_llama, monkeypatch):
    def never(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(DistillationTrainer, "training_step", never)
    with pytest.raises(DeviceMemoryError, match=r"micro-batch of 1: asked for 2\.00 GiB; lower --max-prompt-tokens"):
        train_tiny(tmp_path, tiny_llama, settings_of("--steps", "1", "--batch-size", "2"))


def test_loss_that_is_not_finite_ends_training_with_a_remedy(tmp_path, tiny_llama, monkeypatch):
    monkeypatch.setattr("distillation.losses.divergence", lambda *_: torch.tensor(float("nan")))
    with pytest.raises(JudgementError, match="the loss is nan after step 0: lower --learning-rate"):
        train_tiny(tmp_path, tiny_llama, settings_of("--steps", "1", "--batch-size", "2"))


def test_training_stops_early_and_keeps_the_best(tmp_path, tiny_llama):
    settings = settings_of(
        "--steps", "20", "--evaluations", "20", "--batch-size", "2", "--patience", "1", "--learning-rate", "0.5"
    )
    _, facts = train_tiny(tmp_path, tiny_llama, settings)
    assert facts["steps"] < 20
    assert facts["best_step"] < facts["steps"]


def test_summaries_with_little_overlap_are_left_out_but_paraphrases_are_not():
    def row(task, output):
        return example() | {"task": task, "text": "Stir the soup, then serve it.", "output": output}

    rows = [row("summarize", "Stir the soup."), row("summarize", "A fine text."), row("rewrite", "A fine text.")]
    assert select_examples(rows, "training", settings_of()) == rows
    assert select_examples(rows, "training", settings_of("--least-overlap", "99%")) == [rows[0], rows[2]]
    assert select_examples(rows, "validation", settings_of()) == []


def test_texts_at_the_token_limit_are_examples_unless_only_finished_ones_are():
    rows = [
        example() | {"hit_cap": hit_cap, "task": task} for task in ("summarize", "rewrite") for hit_cap in (False, True)
    ]
    assert select_examples(rows, "training", settings_of()) == rows
    assert select_examples(rows, "training", settings_of("--finished-only")) == [rows[0], rows[2]]


@pytest.mark.parametrize(
    ("change", "options", "named"),
    [
        ({"dropped": "empty"}, (), r"\(the others are empty or repeating\)"),
        ({"hit_cap": True}, ("--finished-only",), r"or repeating, or reached the token limit \(--finished-only\)"),
    ],
)
def test_training_without_usable_texts_is_one_line(tmp_path, tiny_llama, change, options, named):
    rows = [{**each, **change} for each in ROWS]
    with pytest.raises(InputError, match=f"0 training texts and 0 validation texts are usable, .*{named}"):
        train_tiny(tmp_path, tiny_llama, settings_of("--steps", "1", *options), rows)


def test_incomplete_checkpoint_is_skipped(tmp_path):
    for number, text in ((2, json.dumps({"global_step": 2})), (10, '{"glo'), (12, None)):
        (tmp_path / f"checkpoint-{number}").mkdir()
        if text is not None:
            (tmp_path / f"checkpoint-{number}" / "trainer_state.json").write_text(text)
    assert last_complete_checkpoint(tmp_path) == tmp_path / "checkpoint-2"


# Teacher and student ---------------------------------------------------------------------------------------------


@pytest.fixture(params=["transformers", "compiled"])
def generator(request, tiny, monkeypatch):
    """Generates from three prompts at a time, with up to 24 tokens of prompt and text together."""
    monkeypatch.setattr(
        "summarybench.engines.graph_decoder.compile_with_inductor", lambda rows, **_: lambda piece: piece
    )
    monkeypatch.setattr("distillation.generation.is_compiled_for", lambda device: request.param == "compiled")
    yield BatchGenerator(tiny, CPU, 3, 24)
    tiny.set_attn_implementation("sdpa")


def test_batch_generates_what_its_prompts_generate_alone(generator, tiny):
    prompts = [[5, 6, 7, 8], [9], [10, 11], [12, 13, 14]]
    together = generator.generate(prompts, 6)
    tiny.set_attn_implementation("sdpa")
    assert together == [BatchGenerator(tiny, CPU, 1).generate([prompt], 6)[0] for prompt in prompts]


def test_samples_depend_on_the_seed_alone(generator):
    def sample(seed):
        return generator.generate([[5, 6, 7]] * 5, 8, Sampling(temperature=1.0, seed=seed))

    assert sample(1) == sample(1)
    assert sample(1) != sample(2)
    assert len({tuple(answer) for answer in sample(1)}) == 5, "the second batch draws anew"


def test_batch_is_halved_when_memory_runs_out_and_later_ones_are_no_larger(generator, tiny, monkeypatch):
    sizes = []
    for where, whole in ((type(tiny), type(tiny).generate), (CompiledDecoder, CompiledDecoder.generate)):

        def at_most_one(self, ids, *arguments, whole=whole, **options):
            sizes.append(len(ids))
            if len(ids) > 1:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            return whole(self, ids, *arguments, **options)

        monkeypatch.setattr(where, "generate", at_most_one)
    assert len(generator.generate([[5], [6], [7]], 2)) == 3
    assert sizes == [3, 1, 1, 1]
    assert len(generator.generate([[8], [9]], 2)) == 2
    assert sizes == [3, 1, 1, 1, 1, 1]


def test_decoding_is_compiled_on_gpus_with_bfloat16_alone():
    t4 = CudaDevice(kind="cuda", name="T4", slug="t4", family="t4", memory_bytes=2**34, compute_dtype="float16")
    assert [is_compiled_for(device) for device in (CPU, t4, replace(t4, compute_dtype="bfloat16"))] == [
        False,
        False,
        True,
    ]


def test_student_starts_with_the_weights_of_the_kept_layers(teacher, tiny):
    student = untrained_student(teacher, (0,), None)
    ours, theirs = student.state_dict(), tiny.state_dict()
    assert len(ours) < len(theirs)
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


def test_layers_without_effect_are_dropped(tiny):
    """Three of six layers pass their input on unchanged; dropping any other changes the logits."""
    config = copy.deepcopy(tiny.config)
    config.num_hidden_layers, config.layer_types = 6, None
    torch.manual_seed(1)
    model = type(tiny)(config).eval()
    for layer in (0, 3, 4):
        model.model.layers[layer].self_attn.o_proj.weight.data.zero_()
        model.model.layers[layer].mlp.down_proj.weight.data.zero_()
    kept, nats = choose_layers(model, ROWS, 3)
    assert kept == (1, 2, 5)
    assert nats == pytest.approx(0.0, abs=1e-6)
    fewer, more_nats = choose_layers(model, ROWS, 2)
    assert set(fewer) < {1, 2, 5}
    assert more_nats > 1e-4
    assert len(model.model.layers) == 6


def test_as_many_layers_as_the_teacher_has_are_refused(teacher):
    with pytest.raises(InputError, match=f"--layers 2: {TEACHER} has 2 layers, and a student must have fewer"):
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
    with pytest.raises(InputError, match=r"its tokenizer \(.*\) differs from that of"):
        check_starting_model(tmp_path, teacher)


def test_smaller_model_with_the_same_tokenizer_is_accepted(teacher, tiny_llama):
    assert check_starting_model(tiny_llama, teacher).config.num_hidden_layers == 2


def test_starting_folder_without_a_model_is_refused(teacher, tmp_path):
    with pytest.raises(InputError, match="holds no config"):
        check_starting_model(tmp_path, teacher)
