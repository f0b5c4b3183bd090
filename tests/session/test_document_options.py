"""The options that say which documents are read, and what is asked of the model."""

from __future__ import annotations

import argparse

import pytest

from summarybench.catalogue.datasets import read_datasets
from summarybench.core.outcomes import InputError
from summarybench.documents.hub import HubDataset
from summarybench.documents.languages import LANGUAGES
from summarybench.documents.prompts import INSTRUCTION
from summarybench.documents.rows import Columns
from summarybench.documents.strategy import Strategy
from summarybench.session.document_options import DocumentOptions, document_options_of, parse_dataset

NONE_GIVEN = {
    "documents_file": None,
    "document_source": None,
    "dataset": None,
    "split": None,
    "text_column": None,
    "summary_column": None,
    "instruction": None,
    "language": "en",
    "long_documents": (Strategy.TRUNCATE,),
}
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def options(**given):
    return document_options_of(argparse.Namespace(**{**NONE_GIVEN, **given}))


def test_without_options_nothing_is_said_about_the_documents():
    assert options() == DocumentOptions()
    assert options().conditions() == {}


@pytest.mark.parametrize("name", ["cnn_dailymail", "CNN/DailyMail", "cnn-dailymail"])
def test_a_known_dataset_has_its_place_and_its_columns(name):
    found = options(dataset=name)
    assert found.columns == Columns(text="article", summary="highlights")
    assert found.dataset == HubDataset(
        repository="abisee/cnn_dailymail",
        configuration="3.0.0",
        revision="96df5e686bee6baa90b8bee7c28b81fa3fa6223d",
        split="test",
    )


@pytest.mark.parametrize("name", ["xsum", "XSum", "samsum", "SAMSum"])
def test_xsum_and_samsum_are_known_by_name(name):
    dataset, columns = parse_dataset(name, "validation")
    assert dataset.split == "validation"
    assert columns.summary == "summary"


def test_any_dataset_is_named_with_configuration_and_revision():
    dataset, columns = parse_dataset(f"owner/name:3.0@{COMMIT}", None)
    assert dataset == HubDataset(repository="owner/name", configuration="3.0", revision=COMMIT, split="test")
    assert columns == Columns()
    assert str(dataset) == f"owner/name:3.0@{COMMIT}"


def test_a_dataset_without_a_revision_is_read_at_its_newest_commit():
    dataset, _ = parse_dataset("owner/name", None)
    assert dataset == HubDataset(repository="owner/name", configuration=None, revision="main", split="test")


def test_columns_of_a_known_dataset_can_be_overridden():
    assert options(dataset="xsum", text_column="body").columns == Columns(text="body", summary="summary")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"dataset": "owner/name@"}, "--dataset owner/name@: give NAME[:CONFIG][@REV]"),
        ({"dataset": ""}, "or one of cnn_dailymail, xsum, samsum"),
        ({"dataset": "samsun"}, "--dataset samsun: there is no short name 'samsun'; did you mean samsum?"),
        ({"dataset": "cnn_dailymial@main"}, "did you mean cnn_dailymail?"),
        ({"dataset": "xsum", "documents_file": "a.csv"}, "--documents-file and --dataset name 2 sources"),
        (
            {"document_source": "embedded", "documents_file": "a"},
            "--documents-file and --document-source name 2 sources",
        ),
        ({"text_column": "x"}, "--text-column is for --documents-file or --dataset"),
        ({"summary_column": "x"}, "--summary-column is for --documents-file or --dataset"),
        ({"split": "x", "document_source": "embedded"}, "--split is for --documents-file or --dataset"),
        ({"language": "xx"}, "--language xx: not a language that the suite can score; choose from ar (Arabic), "),
        ({"language": "km"}, "--language km: Khmer has no spaces between words, and the suite cannot find its words"),
        ({"instruction": " "}, "--instruction: is empty"),
        ({"instruction": "prompts/absent.txt"}, "--instruction prompts/absent.txt: no such file"),
        ({"instruction": "docs/guide"}, "--instruction docs/guide: is a folder; name a text file"),
    ],
)
def test_options_that_cannot_be_are_one_line(given, said):
    with pytest.raises(InputError) as caught:
        options(**given)
    assert said in str(caught.value)


def test_an_instruction_is_text_or_a_file(tmp_path):
    assert options(instruction="Be brief.").instruction == "Be brief."
    path = tmp_path / "instruction.txt"
    path.write_text("In French, please.\n", encoding="utf-8")
    assert options(instruction=str(path)).instruction == "In French, please."
    assert options(instruction="word " * 5_000).instruction == ("word " * 5_000).strip()
    assert options(instruction=INSTRUCTION).conditions() == {}


def test_a_language_other_than_english_is_a_condition_of_a_run():
    assert options(language="de").conditions() == {"language": "de"}
    assert options(language="de").language is LANGUAGES["de"]
    assert options(language="EN").conditions() == {}


WHOLE = 'name = "x"\nrepository = "a/b"\nsplit = "test"\ntext = "text"\nsummary = "summary"\n'


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ('name = "x"\n', "the key 'repository' is missing"),
        (f"{WHOLE}revision = 1\n", "revision: 1 must be a string"),
        ('name = "x"\ncolumn = "text"\n', "unknown key 'column'"),
    ],
)
def test_a_mistake_in_the_table_of_datasets_is_one_line(tmp_path, entry, said):
    path = tmp_path / "datasets.toml"
    path.write_text(f"[[datasets]]\n{entry}", encoding="utf-8")
    with pytest.raises(InputError, match=r"datasets\.toml: \[\[datasets\]\] number 1: ") as caught:
        read_datasets(path)
    assert said in str(caught.value)


def test_strategies_for_long_documents_are_a_condition_unless_all_documents_are_truncated():
    found = options(long_documents=(Strategy.TRUNCATE, Strategy.REFINE))
    assert found.reads_in_calls
    assert found.conditions() == {"long_documents": ["truncate", "refine"]}
    assert not options(long_documents=(Strategy.TRUNCATE,)).reads_in_calls
