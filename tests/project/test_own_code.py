"""Python code that a checkpoint brings along is never run, and no question about it is asked."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys

import pytest

from summarybench.core.outcomes import Outcome, UnavailableError
from summarybench.engines.chat import open_chat
from summarybench.engines.loaded_model import LoadedModel
from summarybench.engines.not_loaded import NotLoaded
from summarybench.engines.weights import Weights
from tests.checkpoints import changed_copy
from tests.engines.test_loading import load_tiny
from tests.forked import ENVIRONMENT, ROOT, forked_python

SOURCES = sorted(
    path
    for folder in ("summarybench", "fixtures", "distillation", "benchmarks", "tests")
    for path in ROOT.glob(f"{folder}/**/*.py")
)
READING = {"from_pretrained", "from_config"}
THE_READER = ROOT / "summarybench" / "engines" / "pretrained.py"


def auto_class_calls(tree):
    """Each call of from_pretrained or from_config on one of transformers' Auto classes, under whatever name."""
    aliases = {
        alias.asname
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname and alias.name.startswith("Auto")
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in READING:
            owner = node.func.value
            name = owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")
            if name.startswith("Auto") or name in aliases:
                yield node


def refuses_own_code(call):
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    value = given.get("trust_remote_code")
    return isinstance(value, ast.Constant) and value.value is False


@pytest.mark.parametrize(
    ("line", "is_safe"),
    [
        ("AutoConfig.from_pretrained(folder, trust_remote_code=False)", True),
        ("AutoConfig.from_pretrained(folder)", False),
        ("AutoConfig.from_pretrained(folder, trust_remote_code=True)", False),
        ("AutoConfig.from_pretrained(folder, trust_remote_code=None)", False),
        ("AutoConfig.from_pretrained(folder, **options)", False),
        ("transformers.AutoModelForCausalLM.from_config(config)", False),
        ("from transformers import AutoTokenizer as Reader\nReader.from_pretrained(folder)", False),
    ],
)
def test_the_walk_sees_which_calls_refuse_own_code(line, is_safe):
    (call,) = auto_class_calls(ast.parse(line))
    assert refuses_own_code(call) is is_safe


def test_every_call_that_reads_a_checkpoint_refuses_its_own_code():
    calls = [
        (f"{path.relative_to(ROOT)}:{call.lineno}", refuses_own_code(call))
        for path in SOURCES
        for call in auto_class_calls(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert len(calls) >= 6  # configuration, tokenizer and model, and three models of a configuration
    assert [where for where, is_safe in calls if not is_safe] == []


def test_one_module_reads_checkpoints_for_all_others():
    others = [
        path
        for path in SOURCES
        if path.relative_to(ROOT).parts[0] in ("summarybench", "fixtures", "distillation") and path != THE_READER
    ]
    found = [
        f"{path.relative_to(ROOT)}:{call.lineno}"
        for path in others
        for call in auto_class_calls(ast.parse(path.read_text(encoding="utf-8")))
        if call.func.attr == "from_pretrained"
    ]
    assert found == []


# With a checkpoint that brings code along ------------------------------------------------------------------------------

OWN_CODE = """
from pathlib import Path

Path({marker!r}).touch()

from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

class OwnConfig(LlamaConfig):
    model_type = "own"

class OwnModel(LlamaForCausalLM):
    config_class = OwnConfig

class OwnTokenizer(PreTrainedTokenizerFast):
    pass
"""
MAPPED = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}


@pytest.fixture
def marker(tmp_path):
    """What the checkpoint's own code makes when it is run."""
    return tmp_path / "was-run"


@pytest.fixture
def with_own_code(tiny_llama, tmp_path, marker):
    """A checkpoint of a type that only its own code knows."""
    folder = changed_copy(tiny_llama, tmp_path / "own", config={"model_type": "own", "auto_map": MAPPED})
    (folder / "own.py").write_text(OWN_CODE.format(marker=str(marker)))
    return folder


@pytest.fixture
def with_own_tokenizer(with_own_code, tiny_llama):
    """A checkpoint of a type that transformers knows, and knows no tokenizer for."""
    config = json.loads((tiny_llama / "config.json").read_text()) | {"model_type": "vit"}
    (with_own_code / "config.json").write_text(json.dumps(config))
    path = with_own_code / "tokenizer_config.json"
    mapped = {"tokenizer_class": "OwnTokenizer", "auto_map": {"AutoTokenizer": ["own.OwnTokenizer", None]}}
    path.write_text(json.dumps(json.loads(path.read_text()) | mapped))
    return with_own_code


class Stdin:
    """A standard input that notes that it has been read, and ends there."""

    was_read = False

    def readline(self, *_):
        self.was_read = True
        return ""

    def fileno(self):
        raise OSError("not a file")


@pytest.fixture
def stdin(monkeypatch):
    found = Stdin()
    monkeypatch.setattr(sys, "stdin", found)
    return found


def line_of(folder, files):
    return (
        f"{folder}: its {files} requires the checkpoint's own Python code (auto_map), which is never run; "
        "give a checkpoint that transformers loads without it"
    )


def test_a_model_of_its_own_code_is_unavailable_in_one_line(with_own_code, marker, stdin):
    found = load_tiny(with_own_code)
    assert isinstance(found, NotLoaded)
    assert found.outcome is Outcome.UNAVAILABLE
    assert found.detail == line_of(with_own_code, "config.json")
    assert not marker.exists()
    assert not stdin.was_read


def test_a_tokenizer_of_its_own_code_is_unavailable_in_one_line(with_own_tokenizer, marker, stdin):
    weights = Weights(kind="path", revision="", location=str(with_own_tokenizer))
    with pytest.raises(UnavailableError) as raised:
        open_chat(weights)
    assert str(raised.value) == line_of(with_own_tokenizer, "tokenizer_config.json")
    assert not marker.exists()
    assert not stdin.was_read


def test_own_code_beside_a_model_that_transformers_knows_is_left_alone(tiny_llama, tmp_path, marker, stdin):
    folder = changed_copy(tiny_llama, tmp_path / "known", config={"auto_map": MAPPED})
    (folder / "own.py").write_text(OWN_CODE.format(marker=str(marker)))
    shutil.copytree(folder, folder / "custom_generate", ignore=shutil.ignore_patterns("*.safetensors"))
    (folder / "custom_generate" / "own.py").rename(folder / "custom_generate" / "generate.py")
    found = load_tiny(folder)
    assert isinstance(found, LoadedModel), found
    assert not marker.exists()
    assert not stdin.was_read


def test_a_distillation_asks_nothing_on_standard_input(with_own_code, tiny_llama, tmp_path, marker):
    answers = tmp_path / "answers"
    answers.write_text("y\n" * 10)
    teacher = "smollm2-135m-instruct"
    options = ("--teacher", teacher, "--model-path", f"{teacher}={tiny_llama}", "--out", "student", "--documents", "4")
    with answers.open() as stdin:
        done = subprocess.run(
            [forked_python(with_models=True), "-m", "distillation", *options, "--student-from", str(with_own_code)],
            cwd=tmp_path, env=ENVIRONMENT, stdin=stdin, capture_output=True, text=True, timeout=240, check=False,
        )  # fmt: skip
        read = os.lseek(stdin.fileno(), 0, os.SEEK_CUR)
    assert not marker.exists()
    assert read == 0
    assert done.returncode == 4
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"ERROR: --student-from {with_own_code}: ")
    assert "requires the checkpoint's own Python code (auto_map), which is never run" in done.stderr
