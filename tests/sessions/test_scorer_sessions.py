"""Sessions with --scorer: scores after the last test, in every file that a run leaves behind."""

from __future__ import annotations

import json

import pytest
from pyarrow import parquet

from tests.conftest import make_project, newest_results

TEXTS = [{"text": f"The cat {number} sat on a mat. It ran.", "summary": f"A cat {number} sat."} for number in range(3)]


@pytest.fixture(scope="module")
def nli(tmp_path_factory):
    """A random NLI classifier whose tokenizer knows few words."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"[PAD]": 0, "[UNK]": 1, "cat": 2, "sat": 3}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=4,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=64,
        id2label={0: "entailment", 1: "neutral", 2: "contradiction"},
    )
    folder = tmp_path_factory.mktemp("nli-tiny")
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    project = make_project(tmp_path_factory.mktemp("scored") / "project")
    (project.folder / "texts.jsonl").write_text("\n".join(map(json.dumps, TEXTS)))
    return project


OPTIONS = ("-m", "embedded", "-k", "4-bit", "--max-new-tokens", "6", "--documents-file", "texts.jsonl")


@pytest.mark.slow
def test_scores_are_in_the_run_file_the_table_of_documents_and_the_terminal(shared, nli):
    found = shared.bench(*OPTIONS, "--scorer", f"facts={nli}", "--scorer", f"bertscore={nli}")
    assert found.exit_code == 0, found.output
    (info,) = found.by_experiment.values()
    facts, similar = info["model_scores"]["facts"], info["model_scores"]["bertscore"]
    assert (facts["kind"], facts["source"], list(facts["means"])) == ("nli", nli.name, ["entailment"])
    assert list(similar["means"]) == ["precision", "recall", "f1"]
    rows = parquet.read_table(newest_results(shared.folder) / "documents.parquet").to_pylist()
    assert [row["scorer_facts_entailment"] for row in rows] == facts["scores"]["entailment"]
    assert [row["scorer_bertscore_f1"] for row in rows] == similar["scores"]["f1"]
    assert "Quality by models" in found.output


def test_a_folder_that_is_no_scorer_is_refused_before_anything_is_measured(shared, one_error_line):
    found = shared.bench(*OPTIONS, "--scorer", "nli=texts.jsonl")
    assert found.exit_code == 4
    assert one_error_line(found) == (
        "ERROR: --scorer nli=texts.jsonl: is neither a folder nor a hub id such as ORG/NAME or ORG/NAME@REVISION"
    )
