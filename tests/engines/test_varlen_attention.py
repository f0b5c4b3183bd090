"""Variable-length attention in continuous batching: the same tokens as torch's sdpa under a mask, and only where it runs."""

from __future__ import annotations

import pytest

from summarybench.engines.memory_model import MemoryPrediction
from summarybench.engines.paged import PAGE_TOKENS, PagedEngine, limits_for
from summarybench.engines.varlen_attention import VARLEN, supports_varlen, torch_varlen_attn
from tests.fakes import FakeGpu

PROMPTS = [list(range(start, start + length)) for start, length in ((5, 300), (50, 20), (90, 7), (200, 120))]


def attend_document_by_document(
    query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, scale=None, window_size=(-1, -1), enable_gqa=False
):
    """What torch's varlen_attn is documented to compute, written for a CPU: each document for itself, causal, aligned at
    its last token.
    """
    import torch

    output = torch.empty_like(query)  # [query tokens, heads, head width]
    for start, end, key_start, key_end in zip(cu_seq_q, cu_seq_q[1:], cu_seq_k, cu_seq_k[1:], strict=False):
        queries, keys = int(end - start), int(key_end - key_start)
        assert queries <= max_q
        assert keys <= max_k
        position = torch.arange(keys - queries, keys)[:, None]
        seen = position >= torch.arange(keys)
        if window_size[0] >= 0:
            seen &= position - torch.arange(keys) <= window_size[0]
        output[start:end] = torch.nn.functional.scaled_dot_product_attention(
            query[start:end].transpose(0, 1),
            key[key_start:key_end].transpose(0, 1),
            value[key_start:key_end].transpose(0, 1),
            attn_mask=seen,
            scale=scale,
            enable_gqa=enable_gqa,
        ).transpose(0, 1)
    return output


def summaries(model, attend):
    """The tokens of each prompt with room for two requests at a time, and what the engine says of its attention."""
    limits = limits_for(
        [len(each) + 8 for each in PROMPTS],
        lambda pages: MemoryPrediction(weights_bytes=1_000, cache_bytes=10 * pages, workspace_bytes=5),
        49,
        may_refuse=True,
    )
    engine = PagedEngine(model, limits, longest_sequence=308, attend=attend)
    try:
        return [result.generated_tokens for result in engine.run(PROMPTS, 8)], engine.settings
    finally:
        engine.close()


@pytest.fixture(scope="module", params=["llama", "grouped heads", "sliding window"])
def tiny_model(request):
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig, LlamaConfig, MistralConfig

    shape = {
        "vocab_size": 1_000,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4 if request.param == "llama" else 2,
        "max_position_embeddings": 512,
    }
    config = MistralConfig(**shape, sliding_window=64) if request.param == "sliding window" else LlamaConfig(**shape)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa", trust_remote_code=False).eval()
    model.generation_config = GenerationConfig(do_sample=False, eos_token_id=0, pad_token_id=0)
    return model


@pytest.mark.slow
def test_engine_generates_the_same_tokens_as_with_sdpa_and_says_which_attention_it_used(tiny_model):
    import torch

    if torch.cuda.is_available():
        pytest.skip("transformers' engine takes the GPU where there is one, and this model is on the CPU")
    expected, before = summaries(tiny_model, attend=None)
    found, settings = summaries(tiny_model, attend=attend_document_by_document)
    assert found == expected
    assert (before["paged_attention"], settings["paged_attention"]) == ("sdpa", VARLEN)
    assert tiny_model.config._attn_implementation == "sdpa"  # as it was before


class HalfPrecision:
    dtype = "torch.float16"
    _supports_flash_attn = True


class SinglePrecision(HalfPrecision):
    dtype = "torch.float32"


class WithoutFlash(HalfPrecision):
    _supports_flash_attn = False


@pytest.mark.parametrize(
    ("model", "capability", "supported"),
    [
        (HalfPrecision(), (8, 0), True),
        (HalfPrecision(), (9, 0), True),
        (HalfPrecision(), (7, 5), False),  # a T4
        (SinglePrecision(), (9, 0), False),
        (WithoutFlash(), (9, 0), False),
    ],
)
def test_flash_attention_is_used_only_where_torch_has_it(model, capability, supported):
    assert supports_varlen(model, FakeGpu(capability=capability)) is supported


def test_flash_attn_package_comes_first(monkeypatch):
    monkeypatch.setattr("transformers.utils.is_flash_attn_2_available", lambda: True)
    assert not supports_varlen(HalfPrecision(), FakeGpu(capability=(9, 0)))


def test_pinned_torch_has_it():
    assert torch_varlen_attn() is not None


@pytest.mark.slow
@pytest.mark.parametrize("queries", [[300, 20, 7, 120], [1, 1, 1, 1], [5, 1, 64, 1]])
def test_torchs_kernel_computes_what_it_documents(queries):
    import torch

    if not torch.cuda.is_available():
        pytest.skip("torch's flash attention needs a GPU")
    keys = [max(queries[0], 300), 20, 64, PAGE_TOKENS]
    generator = torch.Generator("cuda").manual_seed(1)

    def random(tokens, heads):
        return torch.randn(tokens, heads, 128, device="cuda", dtype=torch.float16, generator=generator)

    lengths = [torch.tensor([0, *each], device="cuda").cumsum(0).int() for each in (queries, keys)]
    q, k, v = random(sum(queries), 8), random(sum(keys), 8), random(sum(keys), 8)
    found = torch_varlen_attn()(q, k, v, *lengths, max(queries), max(keys), window_size=(-1, 0)).cpu()
    cpu = [each.cpu() for each in lengths]
    expected = attend_document_by_document(
        *(each.double().cpu() for each in (q, k, v)), *cpu, max(queries), max(keys), window_size=(-1, 0)
    )
    assert (found - expected).norm() / expected.norm() < 1e-3  # float16 keeps 11 bits


@pytest.mark.slow
def test_embedded_models_summaries_part_from_sdpas_only_where_two_tokens_are_as_likely(record_property):
    """Half precision is not bit-repeatable: where texts part, the float32 logits of the two tokens are nearly equal."""
    import torch

    if not torch.cuda.is_available():
        pytest.skip("torch's flash attention needs a GPU")
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    from summarybench.documents.sources import embedded_documents
    from summarybench.engines.embedded import embedded_model_folder

    folder = embedded_model_folder()
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)

    def load(dtype):
        return AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, attn_implementation="sdpa", device_map={"": 0}, trust_remote_code=False
        ).eval()

    model = load(torch.float16)
    model.generation_config = GenerationConfig(do_sample=False, eos_token_id=2, pad_token_id=2)
    chats = (
        f"<|im_start|>user\nSummarize in 1-3 sentences:\n{document.text}<|im_end|>\n<|im_start|>assistant\n"
        for document in embedded_documents().documents
    )
    prompts = [tokenizer(chat, add_special_tokens=False)["input_ids"][-1_500:] for chat in chats]

    def summarize(attend):
        limits = limits_for(
            [len(each) + 64 for each in prompts],
            lambda _: MemoryPrediction(weights_bytes=0, cache_bytes=1, workspace_bytes=1),
            1_000,
            may_refuse=True,
        )
        engine = PagedEngine(model, limits, longest_sequence=max(map(len, prompts)) + 64, attend=attend)
        try:
            return [result.generated_tokens for result in engine.run(prompts, 64)]
        finally:
            engine.close()

    sdpa, varlen = summarize(attend=None), summarize(attend=torch_varlen_attn())
    reference = load(torch.float32)
    gaps = []
    for prompt, one, other in zip(prompts, sdpa, varlen, strict=True):
        common = next((at for at, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), None)
        if common is not None:
            ids = torch.tensor([[*prompt, *one[:common]]], device="cuda")
            with torch.inference_mode():
                logits = reference(ids, logits_to_keep=1).logits[0, -1]
            gaps.append(abs(float(logits[one[common]] - logits[other[common]])))
    record_property("summaries", len(prompts))
    record_property("logit_gaps_where_summaries_part", sorted(gaps))
    assert max(gaps, default=0.0) < 0.1
