"""A hub with a password in its address, which repeats every secret: no output and no file has them in any form."""

from __future__ import annotations

import base64
import io
from contextlib import contextmanager, nullcontext
from urllib.parse import quote

import datasets
import huggingface_hub.constants
import pytest

from summarybench.commands.doctor import report
from summarybench.commands.doctor_hub import examine_hub
from summarybench.core.exit_codes import run_to_exit_code
from summarybench.core.outcomes import ExitCode
from summarybench.documents.hub import HubDataset, documents_of_hub
from summarybench.documents.rows import Columns
from summarybench.engines import hub
from tests.command import command
from tests.conftest import newest_results
from tests.fake_hub import COMMIT, gossiping_hub

USER, PASSWORD = "me", "tr0ub4dor &3/\u00e9"
ENCODED = quote(PASSWORD, safe="")
TOKEN = "hf_" + 30 * "q"
SENT = [base64.b64encode(f"{USER}:{PASSWORD}".encode(encoding)).decode() for encoding in ("utf-8", "latin-1")]
SECRETS = (PASSWORD, ENCODED, *SENT, TOKEN)
SAYS = quote(PASSWORD) + "".join(f",{each}" for each in (ENCODED, *SENT, TOKEN))
NOBODY = 9
STATUSES = (401, 403, 404, 500, 302, None)
"""None stands for a hub that does not answer."""

RETRIED = (500, None)
"""`datasets` asks again for 25 seconds."""

every_status = pytest.mark.parametrize("status", STATUSES, ids=str)


@contextmanager
def endpoint_of(status):
    with nullcontext((NOBODY, [])) if status is None else gossiping_hub(status, SAYS) as (port, asked):
        yield f"http://{USER}:{ENCODED}@127.0.0.1:{port}"
        assert bool(asked) == (status is not None)


def secrets_in(text):
    return [each for each in SECRETS if each in text]


@pytest.fixture
def endpoint(status, tmp_path, monkeypatch):
    """Let this process use the hub, and have a token."""
    with endpoint_of(status) as endpoint:
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", endpoint)
        monkeypatch.setattr(datasets.config, "HF_ENDPOINT", endpoint)
        template = f"{endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        yield endpoint


def dataset(revision):
    return HubDataset(repository="org/data", configuration=None, revision=revision, split="train")


def check_error_line(ask, capsys):
    assert run_to_exit_code(ask) == ExitCode.NO_VERDICT
    said = capsys.readouterr().err
    assert said.startswith("ERROR: ")
    assert secrets_in(said) == []


@every_status
def test_error_line_of_a_model_has_no_secret(endpoint, capsys):
    check_error_line(lambda: hub.describe("org/model", None), capsys)


@every_status
def test_error_line_of_a_dataset_has_no_secret(endpoint, capsys):
    check_error_line(lambda: documents_of_hub(dataset("main"), Columns()), capsys)


@pytest.mark.parametrize(
    "status", [pytest.param(each, marks=[pytest.mark.slow] * (each in RETRIED)) for each in STATUSES], ids=str
)
def test_error_line_of_a_pinned_dataset_has_no_secret(endpoint, capsys):
    check_error_line(lambda: documents_of_hub(dataset(COMMIT), Columns()), capsys)


@every_status
def test_doctor_names_the_hub_without_its_password(endpoint):
    out = io.StringIO()
    report(examine_hub(), out)
    assert f"http://***@{endpoint.partition('@')[2]}" in out.getvalue()
    assert secrets_in(out.getvalue()) == []


@pytest.mark.slow  # three whole sessions; every status is tried in this process above
@pytest.mark.parametrize(
    ("options", "status"),
    [
        (("--model", "org/model"), 401),
        (("--dataset", "org/data@main"), 403),
        (("--model", "org/model"), None),
    ],
    ids=["model-401", "dataset-403", "model-nobody"],
)
def test_session_leaves_no_secret_anywhere(options, status, project):
    project.use("")
    with endpoint_of(status) as endpoint:
        session = project.bench(
            *(*options, "-k", "default", "--documents", "2", "--benchmark-save=main", "--junitxml=junit.xml", "-rA"),
            HF_ENDPOINT=endpoint,
            HF_TOKEN=TOKEN,
            HF_HUB_OFFLINE="0",
            HF_HOME=str(project.folder / "hub"),
        )
    assert session.exit_code == ExitCode.NO_VERDICT, session.output
    write_summary(project)
    files = {path: path.read_text(errors="replace") for path in project.folder.rglob("*") if path.is_file()}
    assert {"junit.xml", "step.md", "journal.jsonl", "run.json", "report.html", "report.md"} <= {
        each.name for each in files
    }
    assert secrets_in(session.output) == []
    assert {path: found for path, text in files.items() if (found := secrets_in(text))} == {}


def write_summary(project):
    """As a workflow does for GITHUB_STEP_SUMMARY."""
    page = project.folder / "step.md"
    assert command("summary")([newest_results(project.folder), "--output", page]) == ExitCode.CLEAN
