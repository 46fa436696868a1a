"""The providers: how a user makes the model of each package, and the form in which its provider answers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from langchain_core.language_models import BaseChatModel

from tests.providers.answers import MODEL, Form
from tests.providers.forms.anthropic import Messages
from tests.providers.forms.chat_completions import ChatCompletions
from tests.providers.forms.mistral import Mistral
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
    stops: bool = True
    timeout: Mapping[str, Any] = field(default_factory=lambda: {"timeout": 0.5})

    def model(self, **options: Any) -> BaseChatModel:
        """Make the model as users do, but for the key and for retries, which would repeat each failure."""
        make: Callable[..., BaseChatModel] = getattr(import_module(self._module), self.model_class)
        return make(**{**self.options, **options})

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

PROVIDERS = {
    provider.name: provider for provider in (OPENAI, RESPONSES, ANTHROPIC, GROQ, DEEPSEEK, XAI, MISTRAL)
}
QUICK = ("openai", "openai-responses", "anthropic")
