"""Compiled decoding against transformers' own `generate`, with tiny random models on the CPU; all but the slow ones compile nothing."""

from __future__ import annotations

import sys
import warnings
from types import SimpleNamespace

import pytest

from summarybench.catalogue.models import COMPILED_ARCHITECTURES, LOADERS
from summarybench.core.outcomes import UnavailableError
from summarybench.documents.document import Document
from summarybench.documents.strategy import Strategy
from summarybench.engines import graph_decoder
from summarybench.engines.compiled import CompiledDecoders
from summarybench.engines.graph_decoder import CompiledDecoder
from summarybench.engines.inductor import digest_of_kernels
from summarybench.engines.loaded_model import LoadedModel
from summarybench.engines.static_attention import ATTENTION, attend
from summarybench.engines.static_cache import cache_tokens_for
from summarybench.machine.cpu_device import CpuDevice
from summarybench.machine.probes import EVERY_PROBE, OF_THE_GPU
from summarybench.machine.telemetry import NullMonitor
from summarybench.measure.batching import find_largest_batch
from summarybench.measure.generation import Instruments, build_prompts, measure
from summarybench.measure.spot_check import _Rounds
from tests.engines.test_loading import CPU, load_tiny

END, PAD, VOCABULARY, CACHE_TOKENS = 3, 7, 97, 64
SHORT, LONG = [11, 12, 13, 14], [40, 41, 42, 43, 44, 45, 46, 47, 48]


SEEDS = {"Qwen3": 6, "Olmo2": 6}
"""Others than 5, for models whose outputs would repeat one token."""


def tiny(kind="Llama", key_value_heads=4):
    """A random model whose greedy outputs are varied: as it is initialized it would repeat one token."""
    import torch
    import transformers

    torch.manual_seed(SEEDS.get(kind, 5))
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=key_value_heads,
        max_position_embeddings=128,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=PAD,
    )
    model = getattr(transformers, f"{kind}ForCausalLM")(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(12)
            elif kind.startswith("Qwen"):  # its biases and norms of heads, which are zeros and ones
                parameter.add_(torch.randn_like(parameter) * 0.3)
    model.generation_config = transformers.GenerationConfig(do_sample=False, pad_token_id=PAD)
    return model


@pytest.fixture(scope="module", autouse=True)
def registered():
    from transformers import AttentionInterface

    AttentionInterface.register(ATTENTION, attend)


MODELS = [
    ("Llama", 4),
    ("Llama", 2),
    ("Llama", 1),
    ("Mistral", 2),
    ("Qwen2", 2),
    ("Qwen3", 2),
    ("Phi3", 2),
    ("Olmo2", 2),
]


@pytest.fixture(scope="module", params=MODELS, ids=lambda each: f"{each[0]}-{each[1]}-key-heads")
def model(request):
    return tiny(*request.param)


def test_every_architecture_that_is_offered_compiled_is_tested_here():
    assert {kind.lower() for kind, _ in MODELS} == COMPILED_ARCHITECTURES


@pytest.fixture(scope="module")
def llama():
    return tiny()


class CompilingCpu(CpuDevice):
    """A CPU on which inductor compiles as on a GPU. Sessions compile on GPUs alone."""

    compiles_decoding = True


COMPILING_CPU = CompilingCpu(**CPU.as_record())


def padded(*rows):
    """Rows of tokens as one batch, padded on the left: ids and mask."""
    import torch

    longest = max(map(len, rows))
    ids = [[PAD] * (longest - len(row)) + list(row) for row in rows]
    mask = [[0] * (longest - len(row)) + [1] * len(row) for row in rows]
    return torch.tensor(ids), torch.tensor(mask)


def expected(model, *rows, tokens=20, ends=()):
    """What transformers generates for each row alone, up to its end token, then padding up to the longest."""
    import torch

    model.set_attn_implementation("sdpa")
    found = []
    for row in rows:
        ids, mask = padded(row)
        with torch.inference_mode():
            output = model.generate(ids, attention_mask=mask, max_new_tokens=tokens, eos_token_id=list(ends) or None)
        found.append(output[0, len(row) :].tolist())
    longest = max(map(len, found))
    return [row + [PAD] * (longest - len(row)) for row in found]


def decoder_of(model, batch_size=1, ends=(), tokens=CACHE_TOKENS, compiled=lambda piece: piece, **options):
    model.set_attn_implementation(ATTENTION)
    return CompiledDecoder(
        model,
        batch_size=batch_size,
        tokens=tokens,
        end_tokens=ends or [VOCABULARY],
        pad_token=PAD,
        compiled=compiled,
        **options,
    )


def generated(decoder, *rows, tokens=20, on_first_token=lambda: None, **options):
    ids, mask = padded(*rows)
    output = decoder.generate(ids, mask, tokens, on_first_token, **options)
    assert output[:, : ids.shape[1]].tolist() == ids.tolist(), "the prompt comes first"
    return output[:, ids.shape[1] :].tolist()


def test_one_row_is_answered_as_transformers_answers_it(model):
    reference = expected(model, LONG)
    assert len(set(reference[0])) > 10, "outputs that vary little would agree by chance"
    assert generated(decoder_of(model), LONG) == reference


def test_without_inductor_the_step_is_transformers_own_and_writes_the_same(model):
    decoder = decoder_of(model, compiled=graph_decoder.uncompiled)
    assert decoder.own_kernels == []
    assert generated(decoder, LONG) == expected(model, LONG)
    batch = decoder_of(model, batch_size=3, compiled=graph_decoder.uncompiled)
    assert generated(batch, SHORT, LONG, [5]) == expected(model, SHORT, LONG, [5])


def test_rows_padded_on_the_left_are_answered_as_they_are_alone(model):
    reference = expected(model, SHORT, LONG, [5])
    assert len({tuple(row) for row in reference}) == 3
    assert generated(decoder_of(model, batch_size=3), SHORT, LONG, [5]) == reference


def ends_in_the_middle(model, row, *, at):
    """The token that transformers chooses first at this place of the row's summary, and no earlier."""
    (summary,) = expected(model, row)
    assert summary[at] not in summary[:at]
    return summary[at]


def test_row_that_ends_before_the_others_is_padded(llama):
    end = ends_in_the_middle(llama, SHORT, at=5)
    reference = expected(llama, SHORT, LONG, ends=[end])
    assert reference[0][5:] == [end] + [PAD] * (len(reference[1]) - 6)
    assert len(reference[1]) > 8, "the other row goes on"
    assert generated(decoder_of(llama, batch_size=2, ends=[end]), SHORT, LONG) == reference


def test_each_of_several_end_tokens_ends_a_row_and_the_last_ends_the_batch(llama):
    ends = [ends_in_the_middle(llama, SHORT, at=5), ends_in_the_middle(llama, LONG, at=8)]
    reference = expected(llama, SHORT, LONG, ends=ends)
    assert 1 < len(reference[1]) <= 9
    assert generated(decoder_of(llama, batch_size=2, ends=ends), SHORT, LONG) == reference


def test_first_token_may_be_the_end(llama):
    end = ends_in_the_middle(llama, LONG, at=0)
    assert generated(decoder_of(llama, ends=[end]), LONG) == [[end]]


def test_end_is_found_where_it_is_the_last_that_the_limit_allows(llama):
    end = ends_in_the_middle(llama, SHORT, at=5)
    assert generated(decoder_of(llama, ends=[end]), SHORT, tokens=6) == expected(llama, SHORT, tokens=6, ends=[end])


@pytest.mark.parametrize("tokens", [1, 2, 13])
def test_no_more_is_generated_than_is_allowed(llama, tokens):
    reference = expected(llama, LONG, tokens=tokens)
    assert len(reference[0]) == tokens
    assert generated(decoder_of(llama), LONG, tokens=tokens) == reference


def test_sequence_may_fill_the_cache_to_its_last_token(llama):
    tokens = CACHE_TOKENS - len(LONG)
    assert generated(decoder_of(llama), LONG, tokens=tokens) == expected(llama, LONG, tokens=tokens)


def test_fewer_rows_than_compiled_for_are_answered_and_no_more_handed_back(llama):
    decoder = decoder_of(llama, batch_size=4)
    assert generated(decoder, SHORT, LONG) == expected(llama, SHORT, LONG)


def test_rows_that_fill_up_do_not_keep_an_ended_batch_going(llama):
    end = ends_in_the_middle(llama, SHORT, at=5)
    assert generated(decoder_of(llama, batch_size=4, ends=[end]), SHORT) == expected(llama, SHORT, ends=[end])


def test_nothing_is_left_of_a_longer_document_before(llama):
    decoder = decoder_of(llama, batch_size=2, ends=[ends_in_the_middle(llama, SHORT, at=5)])
    generated(decoder, [*LONG, *LONG, *LONG], LONG, tokens=30)
    again = generated(decoder, SHORT, [5], tokens=12)
    assert again == generated(decoder_of(llama, batch_size=2, ends=decoder._ends.tolist()), SHORT, [5], tokens=12)
    assert again == expected(llama, SHORT, [5], tokens=12, ends=decoder._ends.tolist())


def test_logits_are_the_models_own_for_the_same_tokens(model):
    import torch

    summary = torch.tensor([[30, 31, 32, 33, 34], [60, 61, 62, 63, 64]])
    ids, mask = padded(SHORT, LONG)
    decoder = decoder_of(model, batch_size=2)
    step, same_tensor = decoder._next, torch.empty(2, VOCABULARY)
    decoder._next = lambda: same_tensor.copy_(step())  # as a graph that is replayed hands them back
    found = decoder.logits(ids, mask, summary)
    model.set_attn_implementation("sdpa")
    whole, attended = torch.cat([ids, summary], dim=1), torch.cat([mask, torch.ones_like(summary)], dim=1)
    with torch.inference_mode():
        own = model(
            whole, attention_mask=attended, position_ids=(attended.cumsum(-1) - 1).clamp(min=0), use_cache=False
        ).logits
    assert found.shape == (2, 5, VOCABULARY)
    torch.testing.assert_close(found, own[:, ids.shape[1] - 1 : -1], rtol=1e-4, atol=1e-3)


def test_first_token_is_told_once_and_before_the_second_is_computed(llama):
    decoder = decoder_of(llama)
    happened, step = [], decoder._next

    def noted_step():
        happened.append("step")
        return step()

    decoder._next = noted_step
    generated(decoder, LONG, tokens=4, on_first_token=lambda: happened.append("first token"))
    assert happened == ["first token", "step", "step", "step"]


def test_second_step_is_queued_before_the_host_waits_for_the_first_token(llama):
    decoder = decoder_of(llama)
    happened, step = [], decoder._next

    class Event:
        def record(self):
            happened.append("asked")

        def synchronize(self):
            happened.append("waited")

    def noted_step():
        happened.append("step")
        return step()

    decoder._steps._copied = [Event(), Event()]
    decoder._next = noted_step
    generated(decoder, LONG, tokens=2, on_first_token=lambda wait: (happened.append("first token"), wait()))
    assert happened[:5] == ["asked", "step", "asked", "first token", "waited"]
    happened.clear()
    generated(decoder, LONG, tokens=1, on_first_token=lambda: happened.append("first token"))
    assert happened == ["asked", "first token"]


# Tokens that are drawn -----------------------------------------------------------------------------------------------


def test_tokens_are_drawn_as_often_as_their_probability_says(llama):
    import torch
    from scipy.stats import chisquare

    count, top_k, temperature = 4000, 8, 25.0
    decoder = decoder_of(llama, batch_size=count, top_k=top_k)
    torch.manual_seed(3)
    output = torch.tensor(generated(decoder, *[LONG] * count, tokens=2, temperature=temperature))
    llama.set_attn_implementation("sdpa")
    before = [LONG, [*LONG, int(output[:, 0].mode().values)]]
    after_the_commonest = output[output[:, 0] == before[1][-1]]
    for place, (prompt, drawn) in enumerate(zip(before, (output, after_the_commonest), strict=True)):
        with torch.inference_mode():
            likely, tokens = llama(torch.tensor([prompt])).logits[0, -1].topk(top_k)
        seen = torch.stack([(drawn[:, place] == token).sum() for token in tokens])
        assert seen.sum() == len(drawn) > 400, "no other token is drawn"
        expected_count = len(drawn) * (likely / temperature).softmax(-1)
        assert expected_count.min() > 5
        assert chisquare(seen, expected_count.double() * (len(drawn) / expected_count.double().sum())).pvalue > 0.001


def test_seed_decides_what_is_drawn_and_greedy_stays_greedy(llama):
    import torch

    decoder = decoder_of(llama, batch_size=2, top_k=20)

    def drawn(seed):
        torch.manual_seed(seed)
        return generated(decoder, SHORT, LONG, temperature=30.0)

    first = drawn(1)
    assert drawn(1) == first != drawn(2)
    assert generated(decoder, SHORT, LONG) == expected(llama, SHORT, LONG)


def test_decoder_that_was_built_to_be_greedy_refuses_a_temperature(llama):
    with pytest.raises(ValueError, match="has to be built with top_k"):
        generated(decoder_of(llama), LONG, temperature=1.0)


# What is compiled, and when ----------------------------------------------------------------------------------------


@pytest.fixture
def uncompiled(monkeypatch):
    """Each building takes 10 s on the clock that is handed back, and compiles nothing."""
    seconds = [0.0]

    def compile_slowly(batch_size, **_):
        seconds[0] += 10
        return lambda piece: piece

    monkeypatch.setattr(graph_decoder, "compile_with_inductor", compile_slowly)
    return lambda: seconds[0]


def test_only_more_rows_are_compiled_anew_and_the_seconds_add_up(llama, uncompiled):
    llama.set_attn_implementation(ATTENTION)
    decoders = CompiledDecoders(llama, tokens=CACHE_TOKENS, end_tokens=[END], pad_token=PAD, clock=uncompiled)
    assert decoders.compile_seconds == 0
    two = decoders.for_batch_size(2)
    assert (two.batch_size, decoders.compile_seconds) == (2, 10)
    assert decoders.for_batch_size(1) is two
    assert decoders.for_batch_size(2) is two
    assert decoders.compile_seconds == 10
    assert (decoders.for_batch_size(3).batch_size, decoders.compile_seconds) == (3, 20)


@pytest.mark.parametrize(
    ("uses_inductor", "message", "raised"),
    [
        (False, "operation not permitted when stream is capturing", UnavailableError),
        (False, "CUDA out of memory", RuntimeError),
        (True, "operation not permitted when stream is capturing", RuntimeError),
    ],
)
def test_step_that_cannot_be_captured_is_no_failure_of_an_old_gpu(llama, uncompiled, uses_inductor, message, raised):
    decoders = CompiledDecoders(
        llama,
        tokens=CACHE_TOKENS,
        end_tokens=[END],
        pad_token=PAD,
        clock=uncompiled,
        uses_inductor=uses_inductor,
    )

    def fail():
        raise RuntimeError(message)

    with pytest.raises(raised, match=message) as error:
        decoders.built(fail)
    assert type(error.value) is raised


def kernels(**chosen):
    """A module as inductor generates it: kernels with the launcher that was chosen, and much else."""
    launchers = {
        name: SimpleNamespace(
            launchers=[SimpleNamespace(config=SimpleNamespace(kwargs=kwargs, num_warps=warps, num_stages=1))]
        )
        for name, (kwargs, warps) in chosen.items()
    }
    others = {
        "call": len,
        "empty": (),
        "unlike": SimpleNamespace(launchers=[len]),
        "named": SimpleNamespace(launchers=len),
    }
    return SimpleNamespace(**others, **launchers)


def test_digest_of_kernels_is_of_all_that_was_chosen_and_of_nothing_else():
    found = digest_of_kernels([kernels(one=({"XBLOCK": 1, "R0_BLOCK": 512}, 4)), kernels(two=({"XBLOCK": 8}, 8))])
    one, two = kernels(one=({"R0_BLOCK": 512, "XBLOCK": 1}, 4)), kernels(two=({"XBLOCK": 8}, 8))
    assert found == digest_of_kernels([two, one, one])
    others = [({"XBLOCK": 1, "R0_BLOCK": 1024}, 4), ({"XBLOCK": 1, "R0_BLOCK": 512}, 8)]
    assert len({found, *(digest_of_kernels([kernels(one=other), two]) for other in others)}) == 3
    assert digest_of_kernels([two]) != found
    assert digest_of_kernels([kernels()]) is None


def test_kernels_are_those_of_the_current_decoder(llama, uncompiled, monkeypatch):
    llama.set_attn_implementation(ATTENTION)
    earlier, two, three = kernels(one=({}, 1)), kernels(one=({}, 2)), kernels(one=({}, 3))
    loaded = [earlier]
    monkeypatch.setitem(
        sys.modules, "torch._inductor.codecache", SimpleNamespace(PyCodeCache=SimpleNamespace(modules=loaded))
    )
    monkeypatch.setattr(
        graph_decoder,
        "compile_with_inductor",
        lambda batch_size, **_: loaded.append({2: two, 3: three}[batch_size]) or (lambda piece: piece),
    )
    decoders = CompiledDecoders(llama, tokens=CACHE_TOKENS, end_tokens=[END], pad_token=PAD, clock=uncompiled)
    assert decoders.tuned_kernels is None
    for rows, module in ((2, two), (3, three)):
        decoders.for_batch_size(rows)
        assert decoders.tuned_kernels == digest_of_kernels([module])


def test_decoder_for_another_number_of_rows_is_dropped_before_single_documents_are_measured(llama, uncompiled):
    llama.set_attn_implementation(ATTENTION)
    decoders = CompiledDecoders(llama, tokens=CACHE_TOKENS, end_tokens=[END], pad_token=PAD, clock=uncompiled)
    decoders.keep_only(1)
    many = decoders.for_batch_size(4)
    decoders.keep_only(4)
    assert decoders.for_batch_size(4) is many
    decoders.keep_only(1)
    assert decoders.for_batch_size(1).batch_size == 1


def test_search_for_the_largest_batch_recovers_from_the_decoder_that_ran_out(tiny_llama, uncompiled, monkeypatch):
    found = load_tiny(tiny_llama, "4-bit-compiled", device=COMPILING_CPU)
    generate = CompiledDecoder.generate

    def of_three_rows_at_most(decoder, *arguments):
        if decoder.batch_size > 3:
            raise MemoryError("no more than three rows")
        return generate(decoder, *arguments)

    monkeypatch.setattr(CompiledDecoder, "generate", of_three_rows_at_most)
    largest = find_largest_batch(found, [SimpleNamespace(token_ids=tuple(SHORT))], 4, CPU)
    assert largest.batch_size == 3
    assert largest.tries[0] == (8, False)


@pytest.mark.parametrize(("longest", "tokens"), [(1, 64), (64, 64), (65, 128), (612, 640)])
def test_cache_is_as_long_as_the_longest_sequence_or_a_little_longer(longest, tokens):
    assert cache_tokens_for(longest) == tokens


def test_compiled_loader_generates_what_its_eager_counterpart_does(tiny_llama, uncompiled):
    eager, found = (load_tiny(tiny_llama, loader, device=COMPILING_CPU) for loader in ("4-bit", "4-bit-compiled"))
    assert isinstance(found, LoadedModel), found
    assert eager.compile_seconds is None
    assert (eager.speed_probes, found.speed_probes) == (EVERY_PROBE, OF_THE_GPU)
    assert found.compile_seconds == 0, "nothing is compiled before it is known for how many rows"
    rows = [found.chat.chat_ids(message) for message in ("Say something.", "Say something longer.")]
    for batch in (rows[:1], rows):
        answers = []
        for each in (eager, found):
            prepared = each.prepare(batch)
            answers.append(each.generated_ids(each.generate(prepared, 12, lambda: None), prepared))
        assert answers[0] == answers[1]
    assert found.decoders.for_batch_size(1).batch_size == 2
    assert found.compile_seconds is not None


@pytest.mark.parametrize("strategy", [Strategy.MAP_REDUCE, Strategy.REFINE])
def test_compiled_loader_reads_a_long_document_as_its_eager_counterpart_does(tiny_llama, uncompiled, strategy):
    text = " ".join(f"Step {number} is to turn the screw once." for number in range(20))
    document = Document(url="u", section="s", text=text, reference="")
    found = []
    for loader in ("4-bit", "4-bit-compiled"):
        model = load_tiny(tiny_llama, loader, device=COMPILING_CPU)
        prompts = build_prompts(model.chat, [document], 80, 8, "Sum up.", strategy)
        instruments = Instruments(device=COMPILING_CPU, clock=COMPILING_CPU.clock(), monitor=NullMonitor())
        measured = measure(
            _Rounds(), model, prompts, max_new_tokens=8, instruments=instruments, on_record=lambda _: None
        )
        (record,) = measured.records
        found.append((record.summary, record.earlier_calls, record.earlier_generated_tokens, record.prompt_tokens))
    assert found[0] == found[1]
    assert found[0][1] >= 3


@pytest.mark.slow
@pytest.mark.parametrize("top_k", [None, 20])
def test_step_compiled_by_inductor_generates_the_same(llama, top_k):
    import torch

    llama.set_attn_implementation(ATTENTION)
    decoder = CompiledDecoder(llama, batch_size=2, tokens=CACHE_TOKENS, end_tokens=[END], pad_token=PAD, top_k=top_k)
    assert generated(decoder, SHORT, LONG) == expected(llama, SHORT, LONG, ends=[END])
    if top_k:
        torch.manual_seed(1)
        assert len({tuple(row) for row in generated(decoder, SHORT, SHORT, temperature=30.0)}) == 2


@pytest.mark.slow
@pytest.mark.parametrize("loader", [name for name, loader in LOADERS.items() if loader.is_compiled])
def test_every_compiled_loader_is_compiled_in_three_pieces_one_of_which_is_all_layers(tiny_llama, loader):
    import torch
    from torch._dynamo.utils import counters

    found = load_tiny(tiny_llama, loader, device=COMPILING_CPU)
    prompt, summary = found.chat.chat_ids("Say something."), [30, 31, 32, 33]
    counters.clear()
    decoder = found.decoders.for_batch_size(1)
    with torch.no_grad():
        for _ in range(3):
            decoder._next()  # as it is captured, before any prompt is read
    assert found.model.config.num_hidden_layers > 1
    assert counters["stats"]["unique_graphs"] == 3
    whole = found.forced_logits(prompt, summary)
    assert counters["stats"]["unique_graphs"] == 3
    eager = load_tiny(tiny_llama, LOADERS[loader].eager_counterpart or "default").forced_logits(prompt, summary)
    assert (whole - eager).norm() / eager.norm() < 0.02  # 16 bits, summed in another order


def test_inductor_s_advice_to_let_float32_be_less_is_not_shown_and_its_other_warnings_are():
    advice = (
        "TensorFloat32 tensor cores for float32 matrix multiplication available but not enabled. Consider setting "
        "`torch.set_float32_matmul_precision('high')` for better performance."
    )
    with warnings.catch_warnings(record=True) as shown:
        for message in (advice, "another"):
            warnings.warn_explicit(message, UserWarning, "compile_fx.py", 322, module="torch._inductor.compile_fx")
        with pytest.raises(UserWarning, match="TensorFloat32"):
            warnings.warn_explicit(advice, UserWarning, "x.py", 1, module="fixtures.x")
    assert [str(each.message) for each in shown] == ["another"]
