"""Datasets of the hub, without the hub."""

from dataclasses import replace

import datasets
import huggingface_hub
import pytest
from datasets.arrow_writer import ArrowWriter
from httpx2 import ConnectTimeout, Request, Response
from huggingface_hub import HfApi, errors

from summarybench.core.outcomes import InputError, UnavailableError
from summarybench.documents.document import DocumentSource, Half
from summarybench.documents.hub import HubDataset, documents_of_hub, wikilingua_documents
from summarybench.documents.languages import LANGUAGES
from summarybench.documents.rows import Columns

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OTHER_COMMIT = "f" * 40
NEWS = HubDataset(repository="example/news", configuration="3.0.0", revision=COMMIT, split="test")
RESPONSE = Response(404, request=Request("GET", "https://huggingface.co"))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """The empty cache of `datasets`."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return tmp_path / "cache"


def put_into(cache, commit, text):
    """Leave a commit of example/news in the cache, as `datasets` does."""
    folder = cache / "example___news" / "3.0.0" / "0.0.0" / commit
    folder.mkdir(parents=True)
    with ArrowWriter(path=str(folder / "news-test.arrow")) as writer:
        writer.write({"document": text, "summary": "Do."})
        writer.finalize()
    splits = {"test": {"name": "test", "num_bytes": 1, "num_examples": 1, "dataset_name": "news"}}
    datasets.DatasetInfo(config_name="3.0.0", splits=splits).write_to_directory(str(folder))


@pytest.fixture
def hub(monkeypatch):
    """A hub with the rows that a test asks for, or one that raises; it lists what it was asked."""

    class Hub:
        def __init__(self):
            self.rows, self.error, self.asked = [], None, []

        def load_dataset(self, *arguments, **options):
            self.asked.append((arguments, options))
            if self.error:
                raise self.error
            return datasets.Dataset.from_list(self.rows)

    made = Hub()
    monkeypatch.setattr(datasets, "load_dataset", made.load_dataset)
    monkeypatch.setattr(HfApi, "dataset_info", lambda *_, **__: type("Info", (), {"sha": COMMIT}))
    return made


def test_wikilingua_is_read_at_the_pinned_revision_and_sampled_from_its_bench_half(hub):
    hub.rows = [
        {"url": f"u{number}", "article": {"section_name": ["a"], "document": ["Text."], "summary": ["Do."]}}
        for number in range(40)
    ]
    collection = wikilingua_documents()
    assert hub.asked == [
        (
            ("esdurmus/wiki_lingua", "english"),
            {"split": "train", "revision": "ea3db3510cbd34d0f8dc612419ae40e4732f3b40"},
        )
    ]
    assert len(collection.documents) == 40
    assert {document.half for document in collection.sample(None, 0)} == {Half.BENCH}


def test_wikilingua_is_read_in_the_language_and_without_references_that_have_no_words(hub):
    article = {
        "section_name": ["a", "b"],
        "document": ["Öffnen.", "Schließen."],
        "summary": ["Tür öffnen.", "…"],
        "english_url": ["e", "e"],
        "english_section_name": ["a", "b"],
    }
    hub.rows = [{"url": "u", "article": article}]
    collection = wikilingua_documents(LANGUAGES["de"])
    assert hub.asked == [
        (
            ("esdurmus/wiki_lingua", "german"),
            {"split": "train", "revision": "ea3db3510cbd34d0f8dc612419ae40e4732f3b40"},
        )
    ]
    assert [document.text for document in collection.documents] == ["Öffnen."]
    assert collection.about_dropped == (
        "WikiLingua (German): 1 document; dropped 1 with a reference summary without words"
    )


def test_wikilingua_without_articles_in_a_language_is_not_downloaded(hub):
    with pytest.raises(InputError, match="--language sv: WikiLingua has no articles in Swedish; give --documents-file"):
        wikilingua_documents(LANGUAGES["sv"])
    assert not hub.asked


def test_the_first_of_two_sections_of_one_name_is_kept_of_wikilingua(hub):
    """Its stored runs were measured like that."""
    hub.rows = [{"url": "u", "article": {"section_name": ["a", "a"], "document": ["1.", "2."], "summary": ["x", "y"]}}]
    collection = wikilingua_documents()
    assert [document.text for document in collection.documents] == ["1."]
    assert collection.about_dropped == (
        "WikiLingua: 1 document; dropped 1 with the url and section name of an earlier one"
    )


@pytest.mark.parametrize(
    "error", [ConnectionError("no route\nto host"), datasets.exceptions.DatasetNotFoundError("gone")]
)
def test_wikilingua_that_cannot_be_fetched_says_what_to_use_instead(hub, error):
    hub.error = error
    with pytest.raises(UnavailableError, match="--document-source embedded or --documents-file") as caught:
        wikilingua_documents()
    assert "\n" not in str(caught.value)


def test_advice_without_the_hub_fits_what_was_asked_for(hub):
    hub.error = ConnectionError("no route")
    for ask, advice in (
        (wikilingua_documents, "use --document-source embedded or --documents-file PATH"),
        (
            lambda: wikilingua_documents(LANGUAGES["de"]),
            "use --documents-file PATH",
        ),  # the built-in articles are English
        (lambda: documents_of_hub(NEWS, Columns()), "give --documents-file PATH in place of --dataset example/news"),
    ):
        with pytest.raises(UnavailableError) as caught:
            ask()
        assert str(caught.value).endswith(f"connect to the hub once; or {advice}")


def test_a_dataset_is_read_whole_at_its_commit(hub):
    hub.rows = [{"article": f"Text {number}.", "highlights": "Do.", "id": str(number)} for number in range(40)]
    collection = documents_of_hub(NEWS, Columns())
    assert hub.asked == [(("example/news", "3.0.0"), {"split": "test", "revision": COMMIT})]
    assert collection.source is DocumentSource.HUB
    assert collection.revision.startswith(f"example/news:3.0.0@{COMMIT} test ")
    assert len(collection.sample(None, 0)) == 40


def test_a_branch_is_resolved_to_its_commit_and_both_are_said(hub):
    hub.rows = [{"document": "Text.", "summary": "Do."}]
    found = documents_of_hub(replace(NEWS, revision="main"), Columns())
    assert found.revision.startswith(f"example/news:3.0.0@{COMMIT} test ")
    assert found.name == f"--dataset example/news:3.0.0@main (commit {COMMIT})"
    assert hub.asked[0][1]["revision"] == COMMIT


def test_a_commit_in_the_cache_is_read_without_the_hub_whichever_was_cached_last(cache, monkeypatch):
    monkeypatch.setattr(HfApi, "dataset_info", lambda *_, **__: pytest.fail("the hub was asked"))
    put_into(cache, COMMIT, "This commit.")
    put_into(cache, OTHER_COMMIT, "Another commit.")
    found = documents_of_hub(NEWS, Columns())
    assert [document.text for document in found.documents] == ["This commit."]


def test_another_commit_that_the_library_reads_from_its_cache_is_refused(hub, monkeypatch):
    folder = f"/cache/example___news/3.0.0/0.0.0/{OTHER_COMMIT}/news-test.arrow"
    rows = type("Rows", (), {"cache_files": [{"filename": folder}]})
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: rows)
    with pytest.raises(UnavailableError, match=rf"at {COMMIT}, and the cache has another commit \({OTHER_COMMIT}\)"):
        documents_of_hub(NEWS, Columns())


def test_a_branch_is_the_commit_that_it_was_last_if_the_hub_gives_no_answer(cache, monkeypatch):
    def unreachable(*_, **__):
        raise ConnectTimeout("timed out")

    monkeypatch.setattr(HfApi, "dataset_info", unreachable)
    monkeypatch.setattr(
        huggingface_hub, "try_to_load_from_cache", lambda *_, **__: f"/hub/snapshots/{COMMIT}/README.md"
    )
    put_into(cache, COMMIT, "Text.")
    assert f"@{COMMIT}" in documents_of_hub(replace(NEWS, revision="main"), Columns()).revision


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (errors.GatedRepoError("no", response=RESPONSE), "access is restricted: accept its terms at https://"),
        (errors.RevisionNotFoundError("no", response=RESPONSE), "it has no revision 'v9'"),
        (errors.RepositoryNotFoundError("no", response=RESPONSE), "the hub has no such dataset, or it is private"),
        (ConnectTimeout("timed out"), "connect to the hub once"),
    ],
)
def test_failures_of_the_hub_are_one_line_each(monkeypatch, error, said):
    def dataset_info(*_, timeout, **__):
        assert timeout == 20
        raise error

    monkeypatch.setattr(HfApi, "dataset_info", dataset_info)
    with pytest.raises(UnavailableError) as caught:
        documents_of_hub(HubDataset(repository="a/b", configuration=None, revision="v9", split="test"), Columns())
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_with_the_name_of_the_dataset_is_not_read_in_its_place(hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "example" / "news").mkdir(parents=True)
    with pytest.raises(InputError, match=r"\./example/news would be read in place of the hub's dataset"):
        documents_of_hub(NEWS, Columns())
    assert not hub.asked
