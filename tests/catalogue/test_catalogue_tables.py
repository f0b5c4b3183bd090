"""The catalogue's TOML files: a model or a loader is one entry, and a wrong entry is named."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from summarybench.catalogue.floors import read_floors
from summarybench.catalogue.models import EVERY_GPU, GPUS_WITH_BFLOAT16, read_loaders, read_models
from summarybench.catalogue.published import published_rows, published_throughput
from summarybench.catalogue.servers import SERVERS, UNKNOWN_SERVER, read_servers, recognized_server
from summarybench.core.outcomes import InputError
from tests.forked import ROOT

TINY = """
[tiny-chat]
repository = "someone/tiny-chat"
revision = "main"
marker = "tiny"
title = "a tiny model"
architecture = "llama"
licence_url = "https://example.org/licence"
families = ["gpus"]
on_request = ["cpu"]
null_in_config = ["sliding_window"]

[tiny-chat.config]
vocab_size = 1_000
hidden_size = 64
intermediate_size = 128
num_hidden_layers = 2
num_attention_heads = 4
"""
LOADER = """
[w4]
quantization = "nf4"
compute_capability = 8.0
"""
FLOOR = """
[origins]
measured = "measured on a CPU"

[[floors]]
model = "llama2-7b-chat"
loader = "4-bit"
documents = "wikilingua"
max_new_tokens = 100
rouge1 = 0.275
origin = "measured"
"""
THROUGHPUT = """
[[throughput]]
family = "t4"
model = "llama2-7b-chat"
way = "vLLM"
documents = 100
max_new_tokens = 300
documents_per_second = 0.5
"""
SERVER = """
[mine]
command = "serve {model} --port {port}"
prompt = "tokens"
"""
ROW = """
[[rows]]
family = "t4"
model = "llama2-7b-chat"
loader = "8-bit"
documents = 100
max_new_tokens = 100
document_tokens_per_document = 543.33
seconds_per_document = 18.061
rouge1_common_documents = 0.275
rouge1_common_documents_stemmed = 0.30245
"""


@pytest.fixture
def written(tmp_path):
    """Writes a table, with `before` replaced by `after`, and returns its path."""

    def write(text, before="", after=""):
        assert before in text
        path = tmp_path / "table.toml"
        path.write_text(text.replace(before, after, 1) if before else text, encoding="utf-8")
        return path

    return write


def test_a_model_is_one_entry(written):
    (spec,) = read_models(written(TINY)).values()
    assert (spec.name, spec.marker, spec.families, spec.on_request) == ("tiny-chat", "tiny", EVERY_GPU, {"cpu"})
    assert spec.shape.hidden_size == 64
    assert spec.whole_config == {**spec.config, "sliding_window": None}


def test_a_loader_is_one_entry(written):
    (loader,) = read_loaders(written(LOADER)).values()
    assert (loader.name, loader.families, loader.threshold) == ("w4", GPUS_WITH_BFLOAT16, 6.0)


@pytest.mark.parametrize(
    ("read", "text", "before", "after", "said"),
    [
        (
            read_models,
            TINY,
            "marker",
            "mark",
            r"\[tiny-chat\]: unknown key 'mark' \(with the value 'tiny'\); use one of name, repository, ",
        ),
        (read_models, TINY, 'marker = "tiny"', "", r"\[tiny-chat\]: the key 'marker' is missing; set it to a string"),
        (
            read_models,
            TINY,
            'title = "a tiny model"',
            "",
            r"\[tiny-chat\]: the key 'title' is missing; set it to a string",
        ),
        (read_models, TINY, '= "tiny"', '= "t4"', r"\[tiny-chat\]: marker: 't4' must be a word .*, and none of a100, "),
        (read_models, TINY, '= "tiny"', '= "llama-3"', r"\[tiny-chat\]: marker: 'llama-3' must be a word of letters, "),
        (read_models, TINY, '["gpus"]', '["t5"]', r"\[tiny-chat\]: families: 't5' is not one of a100, .*, gpus, "),
        (read_models, TINY, '["cpu"]', '["t5"]', r"\[tiny-chat\]: on_request: 't5' is not one of "),
        (read_models, TINY, '["cpu"]', '"cpu"', r"\[tiny-chat\]: on_request: 'cpu' must be a list"),
        (
            read_models,
            TINY,
            "hidden_size = 64",
            "",
            r"\[tiny-chat\]: config: the key 'hidden_size' is missing; set it to an integer",
        ),
        (read_models, TINY, "= 64", "= 0", r"\[tiny-chat\]: config: hidden_size: 0 must be at least 1"),
        (read_models, TINY, "= 64", "= '64'", r"\[tiny-chat\]: config: hidden_size: '64' must be an integer"),
        (read_models, TINY, "[tiny-chat]", "tiny = 1\n[tiny-chat]", r"\[tiny\]: must be a table"),
        (
            read_loaders,
            LOADER,
            "nf4",
            "nf5",
            r"\[w4\]: quantization: 'nf5' is not one of as stored, fp8 e4m3 weights, int4 group 64, int8 weights, llm.int8, nf4",
        ),
        (
            read_loaders,
            LOADER,
            "[w4]",
            "[w4]\ndtype = 'fp16'",
            r"\[w4\]: dtype: 'fp16' is not one of bfloat16, float16, float32",
        ),
        (
            read_loaders,
            LOADER,
            "[w4]",
            "[w4]\neager_counterpart = 'w5'",
            r"\[w4\]: eager_counterpart: 'w5' is not one of w4",
        ),
        (
            read_loaders,
            LOADER,
            "[w4]",
            "[w4]\nis_compiled = 'yes'",
            r"\[w4\]: is_compiled: 'yes' must be true or false",
        ),
        (read_floors, FLOOR, "llama2-7b-chat", "llama3", r"\[\[floors\]\] number 1: model: 'llama3' is not one of "),
        (read_floors, FLOOR, '"4-bit"', '"5-bit"', r"\[\[floors\]\] number 1: loader: '5-bit' is not one of "),
        (
            read_floors,
            FLOOR,
            "wikilingua",
            "cnn",
            r"number 1: documents: 'cnn' is not one of embedded, file, hub, wikilingua",
        ),
        (read_floors, FLOOR, '"measured"', '"heard"', r"number 1: origin: 'heard' is not one of measured"),
        (read_floors, FLOOR, "0.275", "27.5", r"number 1: rouge1: 27.5 must lie between 0 and 1"),
        (
            read_floors,
            "origins = 'a CPU'\n" + FLOOR,
            "[origins]",
            "",
            r"\[origins\]: must be a table of keys and values, not 'a CPU'",
        ),
        (read_floors, FLOOR, "[[floors]]", "[[floor]]", r"table.toml: has no \[\[floors\]\]"),
        (published_rows, ROW, "t4", "t5", r"\[\[rows\]\] number 1: family: 't5' is not one of "),
        (published_throughput, THROUGHPUT, "t4", "t5", r"\[\[throughput\]\] number 1: family: 't5' is not one of "),
        (published_throughput, THROUGHPUT, "0.5", "'fast'", r"number 1: documents_per_second: 'fast' must be a number"),
        (read_servers, SERVER, '"tokens"', '"words"', r"\[mine\]: prompt: 'words' is not one of chat, text, tokens"),
        (read_servers, SERVER, "{port}", "8000", r"\[mine\]: command: .* must say with \{port\} where the port goes"),
        (published_rows, ROW, "18.061", "'18 s'", r"number 1: seconds_per_document: '18 s' must be a number"),
    ],
)
def test_a_wrong_entry_is_named_with_its_file_and_value(written, read, text, before, after, said):
    with pytest.raises(InputError, match=r"table\.toml: .*" + said.removeprefix("table.toml: ")):
        read(written(text, before, after))


def test_two_floors_for_one_experiment_are_refused(written):
    with pytest.raises(
        InputError, match="number 2: a floor for llama2-7b-chat, 4-bit, wikilingua, 100 exists already; remove one"
    ):
        read_floors(written(FLOOR + FLOOR[FLOOR.index("[[floors]]") :]))


WRONG_TABLES = [
    (
        "catalogue/models.toml",
        'families = ["gpus"]',
        'families = ["gpu"]',
        "[llama2-7b-chat]: families: 'gpu' is not one of a100, ",
    ),
    (
        "catalogue/loaders.toml",
        'quantization = "nf4"',
        'quantisation = "nf4"',
        "[4-bit]: unknown key 'quantisation' (with the value 'nf4')",
    ),
    (
        "catalogue/floors.toml",
        'loader = "8-bit"',
        'loader = "9-bit"',
        "[[floors]] number 2: loader: '9-bit' is not one of ",
    ),
    ("machine/families.toml", 'title = "NVIDIA T4"', "", "[t4]: the key 'title' is missing; set it to a string"),
]


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    """A copy of the packages that sessions and commands import, whose tables a test may edit."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("summarybench", "fixtures", "benchmarks", "distillation"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("conftest.py", "pytest.ini"):
        shutil.copy(ROOT / name, folder)
    return folder


READ_BY_DISTILLATION = {"catalogue/models.toml", "catalogue/loaders.toml", "machine/families.toml"}


@pytest.mark.parametrize(("table", "before", "after", "said"), WRONG_TABLES, ids=[each[0] for each in WRONG_TABLES])
def test_a_wrong_table_ends_sessions_and_commands_with_one_line_and_no_traceback(copied, table, before, after, said):
    commands = [("pytest", "benchmarks", "--collect-only"), ("summarybench", "docs", "--check")]
    if table in READ_BY_DISTILLATION:
        commands += [("distillation", "--help"), ("distillation.judge", "--help")]
    path = copied / "summarybench" / table
    right = path.read_text(encoding="utf-8")
    assert before in right
    path.write_text(right.replace(before, after, 1), encoding="utf-8")
    try:
        found = [python_in(copied, "-m", *command) for command in commands]
    finally:
        path.write_text(right, encoding="utf-8")
    for ended in found:
        assert ended.returncode == 4, ended.stderr
        (line,) = [line for line in (ended.stdout + ended.stderr).splitlines() if line.strip()]
        assert line.startswith(f"ERROR: summarybench/{table}: {said}")


def python_in(folder, *arguments):
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_servers_are_recognized_by_who_owns_their_models():
    assert recognized_server(frozenset({"vllm"})) is SERVERS["vllm"]
    assert recognized_server(frozenset({"somebody"})) is UNKNOWN_SERVER
    owners = [each.owned_by for each in SERVERS.values() if each.owned_by]
    assert len(set(owners)) == len(owners)
