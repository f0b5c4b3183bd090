"""Model-based scorers: which folders are one, and what NLI and BERTScore make of texts. The models are tiny and random."""

from __future__ import annotations

import json

import pytest

from summarybench.core.outcomes import CheckpointError, InputError, UnavailableError
from summarybench.engines import scorer_models
from summarybench.engines.hub import WITHOUT_HUB
from summarybench.engines.scorer_models import ScorerKind, read_scorers
from summarybench.engines.scorers import BertScorer, NliScorer, ScoredText, opened_scorer
from tests.fakes import FakeCpu

LABELS = {0: "contradiction", 1: "neutral", 2: "entailment"}
WORDS = ["the", "cat", "sat", "on", "a", "mat", "dog", "ran", ".", "tea", "is", "hot"]


@pytest.fixture(scope="module")
def tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: number for number, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )


def saved(folder, tokenizer, kind, **options):
    import torch
    from transformers import BertConfig

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=34,
        **options,
    )
    kind(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def nli(tmp_path_factory, tokenizer):
    from transformers import BertForSequenceClassification

    return saved(tmp_path_factory.mktemp("nli"), tokenizer, BertForSequenceClassification, id2label=LABELS)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory, tokenizer):
    from transformers import BertForMaskedLM

    return saved(tmp_path_factory.mktemp("encoder"), tokenizer, BertForMaskedLM)


def scored(source, **texts):
    text = ScoredText(**{"document": "the cat sat . a dog ran .", "summary": "", "reference": "", **texts})
    with opened_scorer(source, FakeCpu()) as scorer:
        return scorer.score(text)


# Which models are scorers ----------------------------------------------------------------------------------------


def test_the_kind_of_a_scorer_is_inferred_from_its_architecture(nli, encoder):
    first, second = read_scorers([f"facts={nli}", f"similar={encoder}"])
    assert (first.kind, first.entailment) == (ScorerKind.NLI, 2)
    assert (second.kind, second.entailment) == (ScorerKind.BERTSCORE, None)
    assert first.source == nli.name
    assert first.digest != second.digest


def test_a_name_that_begins_with_a_kind_chooses_it(nli):
    (scorer,) = read_scorers([f"bertscore-mnli={nli}"])
    assert scorer.kind is ScorerKind.BERTSCORE


def refusal(*pairs):
    with pytest.raises(InputError) as raised:
        read_scorers(list(pairs))
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_what_is_no_scorer_is_refused_in_one_line(nli, encoder, tiny_llama, tmp_path):
    assert refusal("nli").endswith("give NAME=FOLDER or NAME=ORG/MODEL, with a NAME such as nli or bertscore-large")
    assert refusal("a b=x/y").startswith("--scorer a b=x/y: give NAME=FOLDER")
    assert refusal("x=/nowhere") == (
        "--scorer x=/nowhere: is neither a folder nor a hub id such as ORG/NAME or ORG/NAME@REVISION"
    )
    assert refusal(f"x={tmp_path}").endswith("has no config.json; name a folder that save_pretrained wrote")
    assert "LlamaForCausalLM generates text; a scorer is an encoder" in refusal(f"x={tiny_llama}")
    assert "is no NLI model: it needs ForSequenceClassification with a label 'entailment'" in refusal(f"nli={encoder}")
    assert refusal(f"x={nli}", f"x={encoder}").endswith("another scorer has the name 'x'; give each its own")


def test_scorer_that_the_hub_does_not_give_is_replaced_by_a_folder_for_it(monkeypatch):
    def fail(*_):
        raise UnavailableError(f"org/model could not be downloaded; {WITHOUT_HUB}")

    monkeypatch.setattr(scorer_models, "describe", fail)
    assert refusal("nli=org/model") == (
        "--scorer nli=org/model: org/model could not be downloaded; without the hub, name a local folder (--scorer nli=FOLDER)"
    )


def changed_copy(folder, copy, **changes):
    copy.mkdir()
    for file in folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, **changes}))
    return copy


def test_a_classifier_without_entailment_is_refused_unless_its_encoder_is_asked_for(nli, tmp_path):
    moods = changed_copy(nli, tmp_path / "moods", id2label={"0": "sad", "1": "not_entailment", "2": "glad"})
    assert "is a classifier without a label 'entailment'" in refusal(f"mood={moods}")
    (scorer,) = read_scorers([f"bertscore={moods}"])
    assert scorer.kind is ScorerKind.BERTSCORE


def test_other_weights_than_safetensors_are_not_loaded(nli, tmp_path):
    pickled = changed_copy(nli, tmp_path / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    assert "holds no .safetensors; convert the weights" in refusal(f"x={pickled}")


def test_a_checkpoint_that_lacks_weights_is_not_filled_with_random_ones(nli, tmp_path):
    (scorer,) = read_scorers([f"x={changed_copy(nli, tmp_path / 'deeper', num_hidden_layers=2)}"])
    with pytest.raises(CheckpointError, match="tensors are missing"):
        scored(scorer, summary="the cat sat .")


# Scores ----------------------------------------------------------------------------------------------------------


def test_equal_texts_have_a_bertscore_of_one(encoder):
    (scorer,) = read_scorers([f"bertscore={encoder}"])
    found = scored(scorer, summary="the cat sat on a mat", reference="the cat sat on a mat")
    assert found == pytest.approx({"precision": 1.0, "recall": 1.0, "f1": 1.0}, abs=1e-5)


def test_a_bertscore_without_tokens_is_zero(encoder):
    (scorer,) = read_scorers([f"bertscore={encoder}"])
    assert scored(scorer, summary=" ", reference="the cat") == {"precision": 0.0, "recall": 0.0, "f1": 0.0}


def test_a_text_longer_than_the_model_is_cut(encoder, nli):
    one, other = read_scorers([f"bertscore={encoder}", f"nli={nli}"])
    assert scored(one, summary="cat " * 100, reference="dog " * 100).keys() == {"precision", "recall", "f1"}
    assert 0 < scored(other, document="cat " * 100, summary="dog " * 100)["entailment"] < 1


def test_entailment_is_a_probability_that_does_not_depend_on_padding(nli):
    (scorer,) = read_scorers([f"nli={nli}"])
    with opened_scorer(scorer, FakeCpu()) as opened:
        pairs = [("the cat sat .", "a dog ran ."), ("tea is hot the cat sat on a mat .", "tea is hot .")]
        together = opened._probabilities(pairs)
        alone = [opened._probabilities([pair])[0] for pair in pairs]
    assert together == pytest.approx(alone, abs=1e-6)


def test_the_figures_of_a_bertscore_are_means_of_the_best_cosines():
    import torch

    states = {"s": torch.tensor([[1.0, 0.0], [0.6, 0.8]]), "r": torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])}
    scorer = BertScorer.__new__(BertScorer)
    scorer._states = states.__getitem__
    found = scorer.score(ScoredText(document="", summary="s", reference="r"))
    precision, recall = (1 + 0.8) / 2, (1 + 0.8 - 0.6) / 3
    f1 = 2 * precision * recall / (precision + recall)
    assert found == pytest.approx({"precision": precision, "recall": recall, "f1": f1})


def test_entailment_is_the_mean_over_claims_of_the_best_premise():
    table = {("One.", "A."): 0.2, ("Two.", "A."): 0.9, ("One.", "B."): 0.4, ("Two.", "B."): 0.1}
    scorer = NliScorer.__new__(NliScorer)
    scorer._probabilities = lambda pairs: [table[pair] for pair in pairs]
    assert scorer.score(ScoredText(document="One. Two.", summary="A. B.", reference=""))["entailment"] == 0.65
    assert scorer.score(ScoredText(document="One. Two.", summary=" ", reference=""))["entailment"] == 0.0


def test_every_kind_names_the_scores_that_its_scorer_gives(nli, encoder):
    for source in read_scorers([f"nli={nli}", f"bertscore={encoder}"]):
        assert tuple(scored(source, summary="the cat sat .", reference="a dog .")) == source.kind.figures
