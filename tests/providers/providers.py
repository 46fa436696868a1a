"""The providers: how a user makes the model of each package, and the form in which its provider answers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from langchain_core.language_models import BaseChatModel

from tests.providers.answers import MODEL, Answer, Form
from tests.providers.forms.anthropic import Messages
from tests.providers.forms.chat_completions import ChatCompletions
from tests.providers.forms.converse import Converse
from tests.providers.forms.gemini import GenerateContent
from tests.providers.forms.mistral import Mistral
from tests.providers.forms.ollama import OllamaChat
from tests.providers.forms.openrouter import OpenRouter
from tests.providers.forms.responses import Responses

KEY = "no-key"


@dataclass(frozen=True)
class Provider:
    """A package and its provider.

    Attributes:
        name: In test ids.
        title: In the page.
        package: As it is installed.
        model_class: The class of the model, in that package.
        host: The name of the provider's server.
        form: How the provider answers.
        options: What a user gives to make the model.
        reasons: Whether its models send their reasoning.
        refuses: Whether its models may refuse, and say so outside of the text.
        strips: Whether its package takes line ends off the end of a plain answer; a stream shows them.
        stops: Whether cancelling an async call closes its connection at once.
        timeout: The name, and the value in the package's own unit, of a short timeout.
    """

    name: str
    title: str
    package: str
    model_class: str
    host: str
    form: Form
    options: Mapping[str, Any]
    reasons: bool = False
    refuses: bool = False
    strips: bool = False
    stops: bool = True
    timeout: Mapping[str, Any] = field(default_factory=lambda: {"timeout": 0.5})

    def model(self, **options: Any) -> BaseChatModel:
        """Make the model as users do, but for the key and for retries, which would repeat each failure."""
        make: Callable[..., BaseChatModel] = getattr(import_module(self._module), self.model_class)
        return make(**{**self.options, **options})

    def gives(self, answer: Answer) -> bool:
        """Whether its models ever answer so."""
        return (self.reasons or not answer.reasoning) and (self.refuses or not answer.refusal)

    @property
    def _module(self) -> str:
        return self.package.replace("-", "_")


OPENAI = Provider(
    "openai",
    "OpenAI, chat completions",
    "langchain-openai",
    "ChatOpenAI",
    "api.openai.com",
    ChatCompletions(plain_message=(("refusal", None),)),
    {"model": MODEL, "api_key": KEY, "max_retries": 0, "use_responses_api": False},
    refuses=True,
)
RESPONSES = Provider(
    "openai-responses",
    "OpenAI, Responses",
    "langchain-openai",
    "ChatOpenAI",
    "api.openai.com",
    Responses(),
    {"model": MODEL, "api_key": KEY, "max_retries": 0, "use_responses_api": True},
    reasons=True,
    refuses=True,
)
ANTHROPIC = Provider(
    "anthropic",
    "Anthropic",
    "langchain-anthropic",
    "ChatAnthropic",
    "api.anthropic.com",
    Messages(),
    {"model": MODEL, "api_key": KEY, "max_retries": 0, "max_tokens": 1024},
    reasons=True,
)

GROQ = Provider(
    "groq",
    "Groq",
    "langchain-groq",
    "ChatGroq",
    "api.groq.com",
    ChatCompletions(reasoning="reasoning", usage_at="reason", usage_inside="x_groq"),
    {"model": MODEL, "api_key": KEY, "max_retries": 0},
    reasons=True,
)
DEEPSEEK = Provider(
    "deepseek",
    "DeepSeek",
    "langchain-deepseek",
    "ChatDeepSeek",
    "api.deepseek.com",
    ChatCompletions(reasoning="reasoning_content"),
    {"model": MODEL, "api_key": KEY, "max_retries": 0},
    reasons=True,
)
XAI = Provider(
    "xai",
    "xAI",
    "langchain-xai",
    "ChatXAI",
    "api.x.ai",
    ChatCompletions(reasoning="reasoning_content"),
    {"model": MODEL, "api_key": KEY, "max_retries": 0},
    reasons=True,
)
MISTRAL = Provider(
    "mistralai",
    "Mistral",
    "langchain-mistralai",
    "ChatMistralAI",
    "api.mistral.ai",
    Mistral(),
    {"model": MODEL, "api_key": KEY, "max_retries": 0},
    reasons=True,
    timeout={"timeout": 1},  # whole seconds
)
OPENROUTER = Provider(
    "openrouter",
    "OpenRouter",
    "langchain-openrouter",
    "ChatOpenRouter",
    "openrouter.ai",
    OpenRouter(),
    # `max_retries=0` leaves it to the SDK, which repeats for an hour.
    {"model": MODEL, "api_key": KEY, "max_retries": 0, "model_kwargs": {"retries": None}},
    reasons=True,
    timeout={"timeout": 500},  # milliseconds
)
OLLAMA = Provider(
    "ollama",
    "Ollama",
    "langchain-ollama",
    "ChatOllama",
    "127.0.0.1",
    OllamaChat(),
    {"model": MODEL, "reasoning": True},
    reasons=True,
    timeout={"client_kwargs": {"timeout": 0.5}},
)
GEMINI = Provider(
    "google-genai",
    "Gemini",
    "langchain-google-genai",
    "ChatGoogleGenerativeAI",
    "generativelanguage.googleapis.com",
    GenerateContent(),
    {"model": MODEL, "api_key": KEY, "max_retries": 1, "include_thoughts": True},  # 1 is none
    reasons=True,
    strips=True,
)
BEDROCK = Provider(
    "aws",
    "Amazon Bedrock, Converse",
    "langchain-aws",
    "ChatBedrockConverse",
    "bedrock-runtime.us-east-1.amazonaws.com",
    Converse(),
    {
        "model": f"anthropic.claude-sonnet-4-{MODEL}",  # others may not stream
        "region_name": "us-east-1",
        "aws_access_key_id": KEY,
        "aws_secret_access_key": KEY,
        "max_retries": 0,
    },
    reasons=True,
    stops=False,
    timeout={"timeout": 1},  # whole seconds
)
LITELLM = Provider(
    "litellm",
    "LiteLLM, of OpenAI",
    "langchain-litellm",
    "ChatLiteLLM",
    "api.openai.com",
    ChatCompletions(reasoning="reasoning_content"),
    {"model": f"openai/{MODEL}", "api_key": KEY, "max_retries": 0},
    reasons=True,
    timeout={"request_timeout": 0.5},
)

_ALL = (
    OPENAI,
    RESPONSES,
    ANTHROPIC,
    GEMINI,
    BEDROCK,
    MISTRAL,
    GROQ,
    DEEPSEEK,
    XAI,
    OPENROUTER,
    OLLAMA,
    LITELLM,
)
PROVIDERS = {provider.name: provider for provider in _ALL}
QUICK = ("openai", "openai-responses", "anthropic")
