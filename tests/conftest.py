"""A project folder of its own for every session under test, so that nothing is written into the checkout."""

from __future__ import annotations

import atexit
import json
import shutil
import subprocess
import sys
import tempfile
import textwrap
import warnings
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.checkpoints import TINY_SHAPE
from tests.forked import ENVIRONMENT, ROOT, ForkedProcess, forked_python
from tests.known_noise import write_replicates

READ_LATE = frozenset(
    {
        *("ATEN_CPU_CAPABILITY", "COLUMNS", "HOME", "MY_KEY", "PYTEST_XDIST_WORKER"),
        *("LOCAL_RANK", "LOCAL_WORLD_SIZE", "RANK", "WORLD_SIZE", "XDG_CACHE_HOME"),
    }
)
"""Variables that a session reads after its libraries are imported: a fork may have other ones than its server."""

LEFT_BEHIND = ("results", "baselines", "begun")
"""What a session leaves in its project's folder."""

PLUGINS_LEFT_OUT = ("-p", "no:cacheprovider", "-p", "no:anyio")
"""The latter comes with a library, and takes its time."""

OWN_MODULES = r"(summarybench|fixtures|distillation|benchmarks|tests|conftest)(\.|$)"


@contextmanager
def own_warnings_as_errors() -> Iterator[None]:
    """Raise warnings that point at the project's own code. Those of libraries are shown, as pytest.ini says."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", module=OWN_MODULES)
        yield


# A conftest's hooks are called for its own folder, so benchmarks in the same session are not affected.
@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, Any, Any]:
    with own_warnings_as_errors():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Generator[None, Any, Any]:
    with own_warnings_as_errors():
        return (yield)


FAKE_MODELS = """
    import pytest
    from tests.fakes import FakeModel, FakeTime, leave_out_pages, pretend_avx512, probes

    TIME = FakeTime()
    leave_out_pages()
    pretend_avx512()

    @pytest.fixture(scope="session")
    def clock():
        return TIME.clock

    @pytest.fixture(scope="session")
    def load_model():
        return lambda experiment: FakeModel(experiment, TIME)
"""

REAL_MODELS = """
    from tests.fakes import leave_out_pages, probes

    leave_out_pages()
"""
"""Real models on the real clock, without the probes of the machine and the page, which take longer than a tiny model does."""

SCRIPTED_MODELS = """
    import pytest
    from tests.fakes import FakeTime, leave_out_pages, next_of_script, pretend_avx512

    TIME, SCRIPTED = FakeTime(), next_of_script()
    leave_out_pages()
    pretend_avx512()

    @pytest.fixture(scope="session")
    def clock():
        return TIME.clock

    @pytest.fixture(scope="session")
    def probes():
        return SCRIPTED.probes

    @pytest.fixture(scope="session")
    def load_model():
        return lambda experiment: SCRIPTED.model(experiment, TIME)
"""


def newest_results(folder: Path) -> Path:
    """The results folder that was begun last, whether its run has ended or not; one that is not there if none was begun."""
    found = sorted(path for path in (folder / "results").glob("2*") if (path / "journal.jsonl").exists())
    return found[-1] if found else folder / "results" / "none"


@dataclass(frozen=True)
class Session:
    """A finished session: its exit code, what it printed, and what it left behind."""

    exit_code: int
    output: str
    folder: Path

    @property
    def run(self) -> dict[str, Any]:
        return json.loads((newest_results(self.folder) / "run.json").read_text(encoding="utf-8"))

    @property
    def infos(self) -> dict[str, dict[str, Any]]:
        """`extra_info` of each measured experiment, by loader."""
        return {each["extra_info"]["loader"]: each["extra_info"] for each in self.run["benchmarks"]}

    @property
    def by_experiment(self) -> dict[str, dict[str, Any]]:
        """`extra_info` of each measured experiment, by its whole name."""
        return {each["extra_info"]["experiment"]: each["extra_info"] for each in self.run["benchmarks"]}

    @property
    def left_behind(self) -> str:
        """The exit code that the newest folder of results says."""
        return (newest_results(self.folder) / "exit_code").read_text(encoding="utf-8").strip()

    @property
    def outcomes(self) -> dict[str, str]:
        return {each["experiment"]: each["outcome"] for each in self.run["outcomes"]}

    @property
    def stored(self) -> list[Path]:
        return sorted((self.folder / "baselines").glob("*/[0-9]*.json"))


@dataclass(frozen=True)
class Project:
    """A copy of what a session needs, with fake models unless a test says otherwise.

    `shared` is the folder for what several tests use; None for the temporary folder.
    """

    folder: Path
    shared: Path | None = None

    def use(self, conftest: str) -> None:
        (self.folder / "benchmarks" / "conftest.py").write_text(textwrap.dedent(conftest), encoding="utf-8")

    def script(self, *sessions: dict[str, Any], conftest: str = "") -> None:
        """Let the next sessions have fakes as `tests.fakes.Scripted` says, one after the other."""
        (self.folder / "begun").unlink(missing_ok=True)
        (self.folder / "script.json").write_text(json.dumps(sessions), encoding="utf-8")
        self.use(conftest + SCRIPTED_MODELS)

    def measured_noise(self, deviation: float = 0.06, *, one_night: bool = True) -> None:
        """Let the noise between processes, or nights, be known for the only device that has stored runs."""
        (folder,) = (self.folder / "baselines").iterdir()
        write_replicates(folder, deviation, runs=1001, one_night=one_night)

    @property
    def imports_torch(self) -> bool:
        """Whether its sessions do: they load real models, no fake standing in for them, or their fakes need tensors."""
        return "def load_model" not in self._conftest or "import torch" in self._conftest

    @property
    def begun(self) -> list[int]:
        """The process ids of the sessions that have begun since the script was written."""
        return [int(line) for line in (self.folder / "begun").read_text(encoding="utf-8").split()]

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "pytest", "benchmarks", *PLUGINS_LEFT_OUT, *arguments]

    @property
    def environment(self) -> dict[str, str]:
        return dict(ENVIRONMENT)

    def passes_command(self, *arguments: str) -> list[str]:
        """What `summarybench bench` and `make bench` run."""
        return [sys.executable, "-m", "summarybench", "bench", *PLUGINS_LEFT_OUT, *arguments]

    def bench(self, *arguments: str, **environment: str) -> Session:
        return self._finish(self.command(*arguments), environment)

    def bench_once(self, *arguments: str) -> Session:
        """`bench` as the project's first session, which runs once for all tests whose projects are alike.

        The others get a copy of what it left behind.
        """
        key = (self._first_script, self._conftest, arguments)
        made = FIRST_SESSIONS.get(key)
        if made is None:
            session = self.bench(*arguments)
            kept = Path(tempfile.mkdtemp(prefix="first-session-", dir=self.shared))
            atexit.register(shutil.rmtree, kept, ignore_errors=True)
            copy_what_is_left(self.folder, kept)
            FIRST_SESSIONS[key] = replace(session, folder=kept)
            return session
        copy_what_is_left(made.folder, self.folder)
        return replace(made, folder=self.folder)

    @property
    def _conftest(self) -> str:
        return (self.folder / "benchmarks" / "conftest.py").read_text(encoding="utf-8")

    @property
    def _first_script(self) -> str:
        """What `script` says about the first session."""
        path = self.folder / "script.json"
        return json.dumps(json.loads(path.read_text(encoding="utf-8"))[:1]) if path.exists() else ""

    def bench_in_own_python(self, *arguments: str) -> Session:
        """In one that has imported nothing yet."""
        return self._run(self.command(*arguments), self.environment)

    def start(self, *arguments: str, **options: Any) -> ForkedProcess:
        """A session that runs while the test goes on; `options` are those of `subprocess.Popen`."""
        return ForkedProcess(self.command(*arguments), cwd=self.folder, **{"env": self.environment, **options})

    def make_bench(self, *arguments: str) -> Session:
        return self._finish(self.passes_command(*arguments), {})

    def history(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`summarybench history` on what is stored here."""
        return subprocess.run(
            [sys.executable, "-m", "summarybench", "history", *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
        )

    def launch(self, *arguments: str) -> Session:
        """Two processes under torchrun, on a free port."""
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        return self._finish([*launcher, *self.command(*arguments)[1:]], {"OMP_NUM_THREADS": "1"}, imports_torch=True)

    def _finish(self, command: list[str], environment: dict[str, str], *, imports_torch: bool = False) -> Session:
        other = {name for name, value in environment.items() if ENVIRONMENT.get(name) != value}
        if other <= READ_LATE:
            with_models = imports_torch or self.imports_torch or "--model" in command or "--show-prompt" in command
            command = [forked_python(with_models=with_models), *command[1:]]
        return self._run(command, {**self.environment, **environment})

    def _run(self, command: list[str], environment: dict[str, str]) -> Session:
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=900,  # against a hang: a real session of six models takes minutes on a busy machine
            check=False,
        )
        return Session(exit_code=done.returncode, output=done.stdout + done.stderr, folder=self.folder)


FIRST_SESSIONS: dict[tuple[str, str, tuple[str, ...]], Session] = {}
"""Those of `bench_once`, by script, conftest and arguments."""


def copy_what_is_left(source: Path, target: Path) -> None:
    for name in LEFT_BEHIND:
        if (source / name).is_dir():
            shutil.copytree(source / name, target / name, symlinks=True)
        elif (source / name).exists():
            shutil.copy(source / name, target / name)


@pytest.fixture
def project(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose shared folder pytest removes some runs later, even if this one is killed."""
    return replace(make_project(tmp_path / "project"), shared=tmp_path_factory.getbasetemp())


def make_project(folder: Path) -> Project:
    """A new project folder with fake models."""
    folder.mkdir()
    for name in ("conftest.py", "pytest.ini"):
        shutil.copy(ROOT / name, folder / name)
    shutil.copytree(ROOT / "benchmarks", folder / "benchmarks", ignore=shutil.ignore_patterns("__pycache__"))
    made = Project(folder)
    made.use(FAKE_MODELS)
    return made


@pytest.fixture
def one_error_line() -> Callable[[Session], str]:
    """The one line in which a session says what is wrong with its input; fails where there is a traceback."""

    def found(session: Session) -> str:
        assert "Traceback" not in session.output
        assert "INTERNALERROR" not in session.output
        lines = [line for line in session.output.splitlines() if line.startswith("ERROR: ")]
        assert len(lines) == 1, session.output
        return lines[0]

    return found


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random two-layer Llama and a tokenizer with a chat template: everything real but its size."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from summarybench.documents.sources import embedded_documents

    words = Tokenizer(models.BPE(byte_fallback=False))
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<end>", "<user>", "<assistant>"]
    trainer = trainers.BpeTrainer(vocab_size=1_000, special_tokens=special, initial_alphabet=alphabet)
    words.train_from_iterator((document.text for document in embedded_documents().documents), trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<end>", pad_token="<end>")
    tokenizer.chat_template = "{% for m in messages %}<user> {{ m['content'] }}<end>{% endfor %}<assistant>"
    torch.manual_seed(0)
    config = LlamaConfig(
        **TINY_SHAPE,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=0,
        tie_word_embeddings=False,
    )
    folder = tmp_path_factory.mktemp("tiny-llama")
    model = LlamaForCausalLM(config)
    # As Llama-2 is published: its defaults sample.
    model.generation_config = GenerationConfig(
        do_sample=True, temperature=0.6, top_p=0.9, eos_token_id=0, pad_token_id=0
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
