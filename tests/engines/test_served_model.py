"""Who answers, which way of prompting works, and what a request holds."""

from __future__ import annotations

import time

import pytest

from summarybench.catalogue.models import Experiment
from summarybench.catalogue.servers import SERVERS, PromptStyle
from summarybench.core.outcomes import InputError, UnavailableError
from summarybench.documents.document import Document
from summarybench.documents.prompts import Prompt
from summarybench.engines.embedded import converted_folder
from summarybench.engines.server import opening
from summarybench.engines.server.client import ServerError
from summarybench.engines.server.opening import catalogue_model, gguf_file_of, launch_command_of, offered_model
from summarybench.engines.server.served_model import (
    ServedModel,
    ServerConnections,
    ServerTarget,
    WordChat,
    identify,
    only_model,
)
from summarybench.engines.weights import Weights
from tests.scripted_server import serving

DOCUMENT = Document(url="u", section="s", text="a b c", reference="r")


class Ours:
    """Not a WordChat: the suite has the tokenizer."""

    context_tokens = 100
    template = "ours"

    def __init__(self, text):
        self._text = text

    def text_for_tokenizing(self, message):
        return self._text


def prompt(tokens=3):
    message = "Summarize the following text in 1-3 sentences.\n\na b c"
    return Prompt(
        document=DOCUMENT, token_ids=tuple(range(tokens)), document_tokens=1, truncated=False, message=message
    )


def identified(server, chat, *, preset=None, model_id="", tokens=3):
    target = ServerTarget(addresses=(server.address,), preset=preset, model_id=model_id)
    with ServerConnections(target, time.perf_counter) as connections:
        return identify(target, connections, chat, lambda: prompt(tokens))


@pytest.mark.parametrize(
    ("owner", "text", "tokens", "chat_only", "style"),
    [
        pytest.param("vllm", "one two three", 3, False, PromptStyle.TOKENS, id="known-server-takes-tokens"),
        pytest.param("me", "one two three", 3, False, PromptStyle.TEXT, id="unknown-server-gets-text"),
        pytest.param("me", "one two", 3, False, PromptStyle.CHAT, id="text-that-is-read-otherwise"),
        pytest.param("me", None, 3, False, PromptStyle.CHAT, id="no-text-has-these-tokens"),
        pytest.param("vllm", "one two three", 3, True, PromptStyle.CHAT, id="only-chats-are-offered"),
    ],
)
def test_first_way_of_prompting_that_the_server_reads_as_ours_is_taken(owner, text, tokens, chat_only, style):
    with serving(owned_by=owner, chat_only=chat_only) as server:
        assert identified(server, Ours(text), tokens=tokens).prompt is style


def test_server_renders_where_we_have_no_tokenizer():
    with serving(owned_by="vllm", version="0.24.0", chat_only=False) as server:
        found = identified(server, WordChat())
        asked = [path for path, _, body in server.requests if body]
    assert (found.engine, found.version, found.prompt) == ("vllm", "0.24.0", PromptStyle.CHAT)
    assert asked == ["/v1/chat/completions"]


@pytest.mark.parametrize(("path", "version"), [("/server_info", "0.5.23"), ("/get_server_info", "0.4.1")])
def test_version_is_at_the_first_path_that_answers(path, version):
    with serving(owned_by="sglang", version=version, version_path=path) as server:
        assert identified(server, WordChat()).version == version


def test_server_without_a_version_is_of_an_unknown_one():
    with serving(owned_by="vllm") as server:
        assert identified(server, WordChat()).version == "unknown"


def test_server_that_does_not_answer_is_unavailable():
    target = ServerTarget(addresses=("http://127.0.0.1:9/v1",))
    with (
        ServerConnections(target, time.perf_counter) as connections,
        pytest.raises(UnavailableError, match="no server"),
    ):
        identify(target, connections, WordChat(), prompt)


@pytest.mark.parametrize(("offered", "said"), [([], "0 models (none)"), (["a", "b"], "2 models (a, b)")])
def test_model_must_be_named_unless_it_is_the_only_one(offered, said):
    with pytest.raises(InputError) as caught:
        only_model(offered, "http://host/v1")
    assert f"--server http://host/v1: offers {said}; name one with --server-model" in str(caught.value)
    assert only_model(["a"], "http://host/v1") == "a"


@pytest.mark.parametrize(
    ("status", "path", "said"),
    [
        (500, "/v1", "HTTP 500 Internal Server Error: no list; the server does not list its models, so name one with --server-model"),
        (404, "/v1", "HTTP 404 Not Found: no list; the server does not list its models, so name one with --server-model"),
        (401, "/v1", "HTTP 401 Unauthorized: no list"),
        (503, "/v1", "HTTP 503 Service Unavailable: no list"),
        (404, "", "HTTP 404 Not Found: {}; does the address lack /v1?"),
    ],
)  # fmt: skip
def test_server_without_a_list_of_models_is_refused_with_the_option_that_names_one(status, path, said):
    with serving(models_status=status) as server:
        address = server.address.removesuffix("/v1") + path
        with pytest.raises(InputError) as caught:
            offered_model([address], None)
    assert str(caught.value) == f"--server {address}/models: {said}"


def test_named_model_needs_no_list():
    with serving(models_status=500) as server:
        assert identified(server, WordChat(), model_id="mine").model_id == "mine"


def served(owner, *, chat=None, is_full_length=False, preset=None, model_id=""):
    with serving(owned_by=owner, chat_only=False) as server:
        target = ServerTarget(
            addresses=(server.address,), is_full_length=is_full_length, preset=preset, model_id=model_id
        )
        with ServerConnections(target, time.perf_counter) as connections:
            return ServedModel(
                experiment=Experiment(model="m", loader="server", families=frozenset()),
                weights=Weights(kind="server", revision="r", location=""),
                chat=chat or Ours("one two three"),
                identity=identify(target, connections, chat or Ours("one two three"), prompt),
                target=target,
                connections=connections,
            )


@pytest.mark.parametrize("owner", ["vllm", "sglang"])
def test_rounds_differ_in_a_salt_and_random_weights_are_kept_generating(owner):
    body = served(owner, is_full_length=True).request(prompt(), 7, salt="round 3").body
    assert (body["cache_salt"], body["ignore_eos"], body["max_tokens"]) == ("round 3", True, 7)
    assert "ignore_eos" not in served(owner).request(prompt(), 7, salt="round 3").body


def test_document_that_no_text_stands_for_is_a_failed_request():
    model = served("me")
    object.__setattr__(model.chat, "_text", None)
    with pytest.raises(ServerError, match="has no text that the server would read as our prompt's tokens"):
        model.request(prompt(), 7)


def test_settings_have_the_label_in_place_of_the_version():
    model = served("vllm")
    assert model.settings["engine_version"] == "unknown"
    object.__setattr__(model, "target", ServerTarget(addresses=("http://a/v1", "http://b/v1"), label="mine"))
    assert (model.settings["engine_version"], model.settings["servers"]) == ("mine", 2)


def test_key_is_not_in_the_representation():
    assert "sk-1" not in repr(ServerTarget(addresses=(), api_key="sk-1"))


# What the command line names ---------------------------------------------------------------------------------------


def test_command_may_be_a_preset_with_arguments():
    command = launch_command_of("vllm --quantization fp8")
    assert command.preset is SERVERS["vllm"]
    assert command.template(synthetic=False) == f"{SERVERS['vllm'].command} --quantization fp8"
    assert "--load-format dummy" in command.template(synthetic=True)
    assert launch_command_of("vllm serve {model} --port {port}").preset is None


@pytest.mark.parametrize("named", ["--model my.gguf", "-m my.gguf", "--model=my.gguf", "-hf me/my-GGUF"])
def test_file_that_the_arguments_name_replaces_the_models_own(named):
    own = launch_command_of("llama.cpp --parallel 8").template(synthetic=False)
    assert own.startswith("llama-server --model {gguf} --host ")
    template = launch_command_of(f"llama.cpp {named} --parallel 8").template(synthetic=False)
    assert template == own.replace("--model {gguf} ", "").replace("--parallel", f"{named} --parallel")


def test_gguf_file_is_the_only_one_of_the_folder(tmp_path):
    weights = Weights(kind="path", revision="r", location=str(tmp_path))
    with pytest.raises(
        UnavailableError, match=r"reads one GGUF file, and .* has none; name one, such as --server-command"
    ):
        gguf_file_of(weights)
    (tmp_path / "a.gguf").touch()
    assert gguf_file_of(weights) == tmp_path / "a.gguf"
    (tmp_path / "b.gguf").touch()
    with pytest.raises(UnavailableError, match=r"has a\.gguf, b\.gguf; name one"):
        gguf_file_of(weights)


def test_gguf_file_is_part_of_the_workload():
    model = served("llamacpp", preset=SERVERS["llama.cpp"], model_id="/models/m.Q4_K_M.gguf")
    assert model.settings["weights_file"] == "m.Q4_K_M.gguf"
    assert "weights_file" not in served("vllm").settings


@pytest.mark.parametrize("text", ["", "my-server {model}", "vllm-next", "ollama"])
def test_command_that_is_neither_a_preset_nor_says_its_port_is_refused(text):
    with pytest.raises(InputError, match="begin with one of vllm, sglang, "):
        launch_command_of(text)


@pytest.mark.parametrize(
    ("served_as", "name"),
    [
        ("meta-llama/Llama-2-7b-chat-hf", "llama2-7b-chat"),
        ("/models/Llama-2-7b-chat-hf/", "llama2-7b-chat"),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", "smollm2-135m-instruct"),
    ],
)
def test_model_of_a_server_is_known_by_its_repository_or_name(served_as, name):
    assert catalogue_model(served_as, "server") == name


def test_embedded_model_is_known_by_its_folder_on_any_machine(monkeypatch):
    monkeypatch.setattr(opening, "add_model", lambda spec: None)
    folder = converted_folder().name
    assert catalogue_model(f"/home/other/.cache/{folder}/", "server") == "smollm2-135m-instruct"
    assert catalogue_model(f"/home/other/{folder}-tuned", "server") == f"{folder}-tuned"
