"""The step of one sequence by operators: merged weights, and the same logits; on a CPU its operators are plain torch."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from summarybench.engines import graph_decoder
from summarybench.engines.graph_decoder import CompiledDecoder
from summarybench.engines.inductor import digest_of_kernels
from summarybench.engines.static_attention import attend_to_static_cache
from tests.engines.test_compiled import CACHE_TOKENS, COMPILING_CPU, LONG, PAD, VOCABULARY, expected, generated, tiny
from tests.engines.test_loading import load_tiny


@pytest.fixture(autouse=True)
def uncompiled(monkeypatch):
    monkeypatch.setattr(graph_decoder, "compile_with_inductor", lambda rows, **_: lambda piece: piece)


def decoder_for(model, **options):
    attend_to_static_cache(model)
    options = {"batch_size": 1, "tokens": CACHE_TOKENS, "end_tokens": [VOCABULARY], "pad_token": PAD, **options}
    return CompiledDecoder(model, **options)


def projections(model):
    return [layer.self_attn for layer in model.model.layers]


def kinds(step):
    return {each.kind for layer in step.layers for each in layer.products}


@pytest.mark.parametrize(
    ("loader", "kind"),
    [
        ("fp16-compiled", "plain"),
        ("default-compiled", "plain"),
        ("w8a16-compiled", "int8"),
        ("w4a16-compiled", "int4"),
        ("fp8-compiled", "fp8"),
        ("4-bit-compiled", "nf4"),
        ("8-bit-compiled", ""),  # its activations are int8: bitsandbytes' own layers run
    ],
)
def test_every_compiled_loader_runs_the_step_of_one_row_with_its_own_products(tiny_llama, loader, kind):
    decoder = load_tiny(tiny_llama, loader, device=COMPILING_CPU).decoders.for_batch_size(1)
    assert kinds(decoder._row_step) == {kind}


@pytest.mark.parametrize("loader", ["fp16-compiled", "w8a16-compiled", "w4a16-compiled", "fp8-compiled"])
def test_merged_weights_are_held_once_and_the_modules_see_them(tiny_llama, loader):
    found = load_tiny(tiny_llama, loader, device=COMPILING_CPU)
    decoder = found.decoders.for_batch_size(1)
    for layer, merged in zip(projections(found.model), decoder._row_step.layers, strict=True):
        whole = merged.qkv.weight.untyped_storage().data_ptr()
        parts = [layer.q_proj.weight, layer.k_proj.weight, layer.v_proj.weight]
        assert {part.untyped_storage().data_ptr() for part in parts} == {whole}
        assert sum(part.nbytes for part in parts) == merged.qkv.weight.nbytes


@pytest.mark.parametrize("loader", ["w8a16-compiled", "4-bit-compiled", "w4a16-compiled"])
def test_a_batch_after_a_single_sequence_reads_the_merged_weights_too(tiny_llama, loader):
    import torch

    found = load_tiny(tiny_llama, loader, device=COMPILING_CPU)
    prompt, summary = found.chat.chat_ids("Say something."), [30, 31, 32, 33]
    alone = found.forced_logits(prompt, summary)
    prepared, forced = found.prepare([prompt] * 2), torch.tensor([summary] * 2)
    batch = found.decoders.for_batch_size(2).logits(prepared.input_ids, prepared.attention_mask, forced)
    assert found.decoders.for_batch_size(2)._row_step is None
    assert (batch[0].float() - alone).norm() / alone.norm() < 0.01
    found.decoders.keep_only(1)
    again = found.forced_logits(prompt, summary)
    assert (again - alone).norm() / alone.norm() < 0.01


def test_weights_stay_as_they_are_where_tokens_are_drawn():
    model = tiny()
    before = [layer.q_proj.weight.data_ptr() for layer in projections(model)]
    decoder = decoder_for(model, top_k=4)
    assert decoder._row_step is None
    assert [layer.q_proj.weight.data_ptr() for layer in projections(model)] == before


def test_a_layer_of_another_type_keeps_the_step_of_transformers():
    model = tiny()
    reference = expected(model, LONG)
    for layer in model.model.layers:
        layer.__class__ = type("OtherLayer", (type(layer),), {})
    decoder = decoder_for(model)
    assert decoder._row_step is None
    assert generated(decoder, LONG) == reference


@pytest.mark.parametrize("kind", ["Qwen2", "Qwen3"])
def test_qwen_runs_the_step_of_one_row_with_its_biases_or_norms_of_heads(kind):
    model = tiny(kind, 2)
    reference = expected(model, LONG)
    decoder = decoder_for(model)
    assert kinds(decoder._row_step) == {"plain"}
    assert (decoder._row_step.layers[0].qkv.bias is not None) is (kind == "Qwen2")
    assert generated(decoder, LONG) == reference


def test_projections_of_which_only_some_have_a_bias_run_as_they_are():
    model = tiny("Qwen2", 2)
    for layer in projections(model):
        layer.k_proj.bias = None
    reference = expected(model, LONG)
    decoder = decoder_for(model)
    assert [kind.kind for kind in decoder._row_step.layers[0].products] == ["", "plain", "plain", "plain"]
    assert generated(decoder, LONG) == reference


@pytest.mark.parametrize(
    ("kinds", "capability", "expected"),
    [
        ({"plain"}, (9, 0), True),
        ({"plain", "int4"}, (9, 0), True),
        ({"plain", "int8"}, (10, 0), True),
        ({"plain", "int8"}, (8, 9), False),
        ({"plain", "nf4"}, (9, 0), False),
        ({"plain", "fp8"}, (9, 0), False),
        ({"plain", ""}, (9, 0), False),  # a layer of bitsandbytes in between
    ],
)
def test_kernels_overlap_where_all_of_a_step_can(kinds, capability, expected):
    from summarybench.engines.row_operators import can_overlap

    assert can_overlap(kinds, capability) is expected


def test_tokens_after_the_slot_are_not_attended_to():
    import torch

    from summarybench.engines.row_operators import attend_one_token, scratch_elements

    heads, width, tokens, slot = 2, 8, 16, 5
    keys, values = torch.randn(1, heads, tokens, width), torch.randn(1, heads, tokens, width)
    qkv, rotation = torch.randn(3 * heads * width), torch.stack([torch.ones(width), torch.zeros(width)])
    scratch = torch.zeros(scratch_elements(heads, tokens, width))
    found = []
    for later in (0.0, 100.0):
        keys[:, :, slot + 1 :] = later
        values[:, :, slot + 1 :] = later
        found.append(attend_one_token(qkv, keys, values, rotation, torch.tensor([slot]), scratch, False))
    torch.testing.assert_close(*found)
    query = qkv.view(3, 1, heads, 1, width)[0]
    expected_mix = torch.nn.functional.scaled_dot_product_attention(
        query, keys[:, :, : slot + 1], values[:, :, : slot + 1]
    )
    torch.testing.assert_close(found[0], expected_mix.reshape(-1))


def test_digest_of_kernels_includes_those_of_the_project_and_changes_with_their_source(tmp_path, monkeypatch):
    from summarybench.engines import row_operators

    lines = row_operators.described({"int4", "plain"})
    assert [line.split()[0] for line in lines] == ["attention_row", "int4_rows", "mantissa", "plain_rows", "tiles"]
    for line in lines:
        source = tmp_path / "kernels" / f"{line.split()[0]}.py"
        source.parent.mkdir(exist_ok=True)
        source.write_text("another", encoding="utf-8")
    monkeypatch.setattr(row_operators, "__file__", str(tmp_path / "row_operators.py"))
    assert not {*lines} & {*row_operators.described({"int4", "plain"})}
    empty = SimpleNamespace()
    assert digest_of_kernels([empty], lines) == digest_of_kernels([], [*reversed(lines)])
    assert digest_of_kernels([], lines) != digest_of_kernels([], lines[1:])
    assert digest_of_kernels([]) is None
