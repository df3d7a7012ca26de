"""Names of models: which provider a name means, where it lives, which key goes where, and what is refused."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

import pytest

from greenroom.providers import AuthError, ModelRequest, ModelSettings, OpenAIChat, Provider, connect, user
from greenroom.providers.catalogue import canonical
from greenroom.providers.connect import NATIVE, VENDORS
from greenroom.providers.endpoint import Endpoint

from .wire import completion, json_answer, serve

pytestmark = pytest.mark.anyio

REQUEST = ModelRequest([user("hello")])
KEY = "sk-of-the-environment"
VARIABLES = [
    *(name for vendor in VENDORS.values() for name in vendor.key_variables),
    *("ANTHROPIC_API_KEY", "GEMINI_API_KEY", "GOOGLE_API_KEY", "COHERE_API_KEY", "CO_API_KEY", "OLLAMA_API_KEY"),
    *("AZURE_OPENAI_API_KEY", "AZURE_OPENAI_ENDPOINT", "OPENAI_API_VERSION", "OLLAMA_HOST"),
    *("GOOGLE_CLOUD_PROJECT", "GCLOUD_PROJECT", "GOOGLE_CLOUD_LOCATION", "GOOGLE_CLOUD_REGION"),
    *("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_BEARER_TOKEN_BEDROCK"),
]
#: What a vendor needs beside the model's name.
NEEDED: dict[str, dict[str, Any]] = {
    "vertex": {"project": "p", "api_key": "k"},
    "azure": {"base_url": "https://r.openai.azure.com"},
}


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def endpoint(name: str, /, **options: Any) -> Endpoint:
    made = connect(name, **options)
    assert isinstance(made, Endpoint)
    return made


# -- which


@pytest.mark.parametrize(
    ("name", "kind", "vendor", "model"),
    [
        ("openai:gpt-5-mini", "OpenAIChat", "openai", "gpt-5-mini"),
        ("openai-responses:gpt-5", "OpenAIResponses", "openai", "gpt-5"),
        ("anthropic:claude-sonnet-5", "Anthropic", "anthropic", "claude-sonnet-5"),
        ("gemini:gemini-2.5-pro", "Gemini", "gemini", "gemini-2.5-pro"),
        ("google:gemini-2.5-pro", "Gemini", "gemini", "gemini-2.5-pro"),
        ("ollama:llama3.2:3b", "Ollama", "ollama", "llama3.2:3b"),
        ("ollama-openai:llama3.2:3b", "OpenAIChat", "ollama-openai", "llama3.2:3b"),
        ("bedrock:amazon.nova-lite-v1:0", "Bedrock", "bedrock", "amazon.nova-lite-v1:0"),
        ("bedrock-anthropic:us.anthropic.claude", "BedrockAnthropic", "bedrock", "us.anthropic.claude"),
        ("cohere:command-a-03-2025", "Cohere", "cohere", "command-a-03-2025"),
        ("groq:openai/gpt-oss-120b", "OpenAIChat", "groq", "openai/gpt-oss-120b"),
        ("zai:glm-4.6", "OpenAIChat", "zai", "glm-4.6"),
        ("z.ai:glm-4.6", "OpenAIChat", "zai", "glm-4.6"),
        ("huggingface:meta-llama/Llama-3.3-70B:groq", "OpenAIChat", "huggingface", "meta-llama/Llama-3.3-70B:groq"),
        (" OpenAI: gpt-5 ", "OpenAIChat", "openai", "gpt-5"),
    ],
)
def test_a_vendor_and_a_model(name: str, kind: str, vendor: str, model: str) -> None:
    provider = connect(name)
    assert (provider.name, provider.model) == (vendor, model)
    assert repr(provider) == f"{kind}({model!r})"


@pytest.mark.parametrize(
    ("name", "vendor"),
    [
        ("gpt-5-mini", "openai"),
        ("chatgpt-4o-latest", "openai"),
        ("o3", "openai"),
        ("o4-mini", "openai"),
        ("ft:gpt-4o-mini:Org::id", "openai"),
        ("claude-sonnet-5", "anthropic"),
        ("gemini-2.5-pro", "gemini"),
        ("deepseek-chat", "deepseek"),
        ("mistral-small-latest", "mistral"),
        ("codestral-latest", "mistral"),
        ("command-r-plus", "cohere"),
        ("grok-4", "xai"),
        ("sonar", "perplexity"),
        ("sonar-pro", "perplexity"),
        ("glm-4.6", "zai"),
        ("gpt-oss-120b", None),  # open weights: served by many
        ("llama-3.3-70b", None),
        ("o365", None),
        ("sonarqube", None),
    ],
)
def test_a_well_known_bare_name(name: str, vendor: str | None) -> None:
    if vendor is not None:
        assert (connect(name).name, connect(name).model) == (vendor, name)
    else:
        with pytest.raises(ValueError, match="write 'vendor:model'"):
            connect(name)


def test_a_bare_name_with_capitals() -> None:
    """It goes to the vendor as the vendor writes it."""
    assert (connect("Claude-Sonnet-4-5").name, connect("GPT-5-mini").model) == ("anthropic", "gpt-5-mini")


@pytest.mark.parametrize("vendor", [*VENDORS, *NATIVE])
def test_every_vendor_can_be_made(vendor: str) -> None:
    assert isinstance(connect(f"{vendor}:some-model", **NEEDED.get(vendor, {})), Provider)


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("opnai:gpt-5", ValueError, "did you mean 'openai'"),
        ("antropic:claude", ValueError, "did you mean 'anthropic'"),
        ("openai/gpt-5", ValueError, "did you mean 'openai:gpt-5'"),
        ("gpt5-mini", ValueError, "did you mean 'gpt-5-mini'"),
        ("opnai", ValueError, "did you mean 'openai'"),
        ("my-model", ValueError, "unknown model 'my-model': write 'vendor:model' with a vendor of"),
        ("", ValueError, "write 'vendor:model'"),
        (":", ValueError, "write 'vendor:model'"),
        ("openai:", ValueError, "names no model"),
        ("openai: ", ValueError, "names no model"),
        ("anthropic:", ValueError, "names no model"),
        ("ollama", ValueError, "write 'ollama:model'"),
        ("Anthropic", ValueError, "write 'anthropic:model'"),
        (3, TypeError, "a name like 'openai:gpt-5-mini', not int"),
        (None, TypeError, "not NoneType"),
    ],
)
def test_an_unknown_name_is_one_clear_line(name: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        connect(name)
    assert "\n" not in str(caught.value)


# -- options


@pytest.mark.parametrize(
    ("name", "option", "words"),
    [
        ("openai:m", "timeout", "openai has no option 'timeout': did you mean 'timeouts'"),
        ("groq:m", "context_length", "groq has no option 'context_length': it takes base_url, api_key"),
        ("anthropic:m", "quirks", "anthropic has no option 'quirks'"),
        ("ollama:m", "key_variable", "ollama has no option 'key_variable': "),
        ("google:m", "project", "gemini has no option 'project'"),
        ("azure:m", "endpoint", "azure has no option 'endpoint'"),
    ],
)
def test_an_unknown_option_names_the_vendor_and_the_option(name: str, option: str, words: str) -> None:
    with pytest.raises(TypeError, match=words) as caught:
        connect(name, **{option: "sk-a-secret"})
    assert "secret" not in str(caught.value)


def test_what_cannot_be_used_is_said_at_once() -> None:
    """And quoted as it was written."""
    with pytest.raises(ValueError, match="api_key= is empty: leave it out"):
        connect("openai:m", api_key=" ")
    with pytest.raises(ValueError, match=r"base_url must be like .*, not 'http://'"):
        connect("openai:m", base_url="http://")
    with pytest.raises(ValueError, match=r"set GOOGLE_CLOUD_PROJECT or pass project=; and signer= or api_key="):
        connect("vertex:m")


def test_options_reach_the_provider() -> None:
    with pytest.raises(ValueError, match="base_url"):
        connect("vllm:m", base_url="localhost:8000")
    made = endpoint("ollama:m", context_length=4096, base_url="http://elsewhere:1")
    assert made.base_url == "http://elsewhere:1"
    assert endpoint("groq:m", name="mine").name == "mine"


def test_none_for_an_option_is_its_default() -> None:
    assert endpoint("groq:m", base_url=None).base_url == VENDORS["groq"].base_url


# -- keys


async def sent(name: str, **options: Any) -> dict[str, str]:
    """The headers of a request to a server of one's own."""
    async with serve(json_answer(completion())) as server:
        await connect(name, base_url=server.url, **options).complete(REQUEST)
    return server.requests[0].headers


@pytest.mark.parametrize("vendor", ["openai", "groq", "xai", "huggingface"])
async def test_a_key_does_not_go_elsewhere_by_itself(vendor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        if name.endswith("KEY"):
            monkeypatch.setenv(name, KEY)
    headers = await sent(f"{vendor}:m")
    assert KEY not in "".join(headers.values())
    assert "authorization" not in headers


async def test_a_key_goes_elsewhere_when_it_is_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROQ_API_KEY", KEY)
    assert (await sent("groq:m", key_variable="GROQ_API_KEY"))["authorization"] == f"Bearer {KEY}"
    assert (await sent("groq:m", api_key="other"))["authorization"] == "Bearer other"


async def test_a_refusal_of_a_call_without_a_key_says_that_there_was_none() -> None:
    refusal = json_answer({"error": {"message": "who are you?"}}, 401)
    async with serve(refusal) as server:
        with pytest.raises(AuthError, match="no key was sent: pass api_key="):
            await connect("groq:m", base_url=server.url).complete(REQUEST)
        with pytest.raises(AuthError) as caught:
            await connect("groq:m", base_url=server.url, api_key="k").complete(REQUEST)
    assert caught.value.hint is None


@pytest.mark.parametrize(
    ("vendor", "variables"),
    [
        *((vendor, known.key_variables) for vendor, known in VENDORS.items() if known.key_variables),
        ("openai-responses", ("OPENAI_API_KEY",)),
        ("anthropic", ("ANTHROPIC_API_KEY",)),
        ("gemini", ("GEMINI_API_KEY", "GOOGLE_API_KEY")),
        ("cohere", ("COHERE_API_KEY",)),
        ("azure", ("AZURE_OPENAI_API_KEY",)),
        ("bedrock", ("AWS_BEARER_TOKEN_BEDROCK",)),
    ],
)
async def test_a_missing_key_names_its_variables(vendor: str, variables: tuple[str, ...]) -> None:
    with pytest.raises(AuthError) as caught:
        await connect(f"{vendor}:m", **NEEDED.get(vendor, {})).complete(REQUEST)
    assert f"set {' or '.join(variables)} or pass api_key=" in str(caught.value)


@pytest.mark.parametrize("vendor", ["huggingface", "together", "perplexity", "zai"])
def test_the_second_usual_variable_counts_when_the_first_is_not_set(
    vendor: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, *_ = VENDORS[vendor].key_variables
    made = endpoint(f"{vendor}:m")
    monkeypatch.setenv(second, "second")
    assert made._current_key() == "second"
    monkeypatch.setenv(first, "first")
    assert made._current_key() == "first"


def test_names_of_variables_are_checked() -> None:
    with pytest.raises(TypeError, match="key_variable= must be the name"):
        OpenAIChat("m", key_variable=["", "B"])
    with pytest.raises(TypeError, match="key_variable= must be the name"):
        OpenAIChat("m", key_variable=3)  # type: ignore[arg-type]


async def test_a_signer_takes_the_place_of_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)

    def signer(request: Any) -> dict[str, str]:
        assert "authorization" not in request.headers
        return {"authorization": "Bearer token"}

    assert (await sent("openai:m", signer=signer))["authorization"] == "Bearer token"
    assert endpoint("openai:m", signer=signer)._current_key() is None


# -- addresses


def test_ollama_is_where_its_variable_says(monkeypatch: pytest.MonkeyPatch) -> None:
    assert endpoint("ollama:m").base_url == "http://localhost:11434"
    assert endpoint("ollama-openai:m").base_url == "http://localhost:11434/v1"
    monkeypatch.setenv("OLLAMA_HOST", "10.0.0.5:9000")
    assert endpoint("ollama:m").base_url == "http://10.0.0.5:9000"
    assert endpoint("ollama-openai:m").base_url == "http://10.0.0.5:9000/v1"


def test_vertex_reads_project_and_location_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="set GOOGLE_CLOUD_PROJECT or pass project="):
        connect("vertex:gemini-2.5-pro", api_key="k")
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "mine")
    monkeypatch.setenv("GOOGLE_CLOUD_LOCATION", "europe-west4")
    made = endpoint("vertex:gemini-2.5-pro", api_key="k")
    assert made.base_url == "https://europe-west4-aiplatform.googleapis.com/v1"
    path = made._dialect.encode(REQUEST, stream=False).path
    assert path.startswith("/projects/mine/locations/europe-west4/publishers/google/models/gemini-2.5-pro")
    other = endpoint("vertex:gemini-2.5-pro", api_key="k", project="yours", location="us-central1")
    assert "/projects/yours/locations/us-central1/" in other._dialect.encode(REQUEST, stream=False).path


# -- Azure

RESOURCE = "https://r.openai.azure.com"
CLASSIC = "/openai/deployments/mine/chat/completions?api-version=2024-10-21"


@pytest.mark.parametrize(
    ("base_url", "options", "version", "target"),
    [
        ("", {}, None, "/openai/v1/chat/completions"),
        ("/", {}, None, "/openai/v1/chat/completions"),
        ("/openai", {}, None, "/openai/v1/chat/completions"),
        ("/openai/v1/", {}, None, "/openai/v1/chat/completions"),
        ("/openai/v1/chat/completions", {}, "2024-10-21", "/openai/v1/chat/completions"),
        ("", {"api_version": "2024-10-21"}, None, CLASSIC),
        ("/openai/v1", {"api_version": "2024-10-21"}, None, CLASSIC),
        ("", {}, "2024-10-21", CLASSIC),
        ("", {"api_version": "preview"}, "2024-10-21", "/openai/v1/chat/completions?api-version=preview"),
        ("", {"api_version": "v1"}, "2024-10-21", "/openai/v1/chat/completions"),
        (CLASSIC, {}, "2020-01-01", CLASSIC),
        (CLASSIC.partition("?")[0], {}, "2024-10-21", CLASSIC),
        (CLASSIC.replace("2024-10-21", "2023-05-15"), {"api_version": "2024-10-21"}, None, CLASSIC),
    ],
)
async def test_both_paths_of_azure(
    base_url: str, options: dict[str, Any], version: str | None, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if version is not None:
        monkeypatch.setenv("OPENAI_API_VERSION", version)
    request = ModelRequest([user("hello")], settings=ModelSettings(max_tokens=5))
    async with serve(json_answer(completion())) as server:
        made = connect("azure:mine", base_url=server.url + base_url, api_key="k", **options)
        await made.complete(request)
    (seen,) = server.requests
    assert seen.target == target
    assert seen.headers["api-key"] == "k"
    assert "authorization" not in seen.headers
    assert (seen.json["model"], seen.json["max_completion_tokens"]) == ("mine", 5)


def test_azure_reads_its_endpoint_and_key_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="set AZURE_OPENAI_ENDPOINT to https://NAME"):
        connect("azure:mine")
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", RESOURCE + "/")
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", KEY)
    made = endpoint("azure:mine")
    assert (made.name, made.base_url, made._current_key()) == ("azure", RESOURCE + "/openai/v1", KEY)


@pytest.mark.parametrize(
    "base_url", ["https://gateway.example", "http://localhost:8000", "https://r.azure.com.example"]
)
def test_the_key_of_azure_goes_to_azure_alone(base_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", KEY)
    assert endpoint("azure:mine", base_url=base_url)._current_key() is None
    assert endpoint("azure:mine", base_url=base_url, key_variable="AZURE_OPENAI_API_KEY")._current_key() == KEY
    assert endpoint("azure:mine", base_url=RESOURCE)._current_key() == KEY
    assert endpoint("azure:mine", base_url=RESOURCE.replace("https", "http"))._current_key() is None  # for all to read


def test_azure_with_a_token_looks_up_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", KEY)
    made = endpoint("azure:mine", base_url=RESOURCE, signer=lambda request: {"authorization": "Bearer t"})
    assert made._current_key() is None


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"base_url": 3}, TypeError, "base_url= must be a string, not int"),
        ({"base_url": RESOURCE, "api_version": 3}, TypeError, "api_version= must be a string"),
        ({"base_url": "r.openai.azure.com"}, ValueError, "base_url must be like"),
    ],
)
def test_a_wrong_argument_for_azure(options: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        connect("azure:mine", **options)


# -- the page about models

PAGE = Path(__file__).resolve().parents[1] / "docs" / "models.md"


def test_the_page_lists_every_vendor_and_its_variables() -> None:
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    listed: dict[str, set[str]] = {}
    for row in rows:
        names, *_, keys = [re.findall(r"`([^`]+)`", cell) for cell in row.strip("|").split("|")]
        listed |= {name: set(keys) for name in names}
    known = {**dict.fromkeys(NATIVE, None), **{vendor: set(each.key_variables) for vendor, each in VENDORS.items()}}
    assert {canonical(name) for name in listed} == set(known)
    for vendor, variables in known.items():
        assert variables is None or listed[vendor] == variables


def test_the_examples_of_the_page_run(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"^ *```python\n(.*?)^ *```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 5
    names: dict[str, Any] = {}
    for block in blocks:
        exec(textwrap.dedent(block), names)  # the page is ours
    assert names["agent"].prices is names["prices"]
