# /// script
# requires-python = ">=3.11"
# dependencies = ["smolagents[openai]==1.26.0", "openai==3.52.0", "httpx2==2.16.2"]
#
# [tool.peer]
# name = "smolagents"
# kind = "peer"
# backends = ["threads"]
# streams = false
# answers-by-call = true
# ///
"""It blocks, so runs have a thread each. An agent holds one conversation, so each run has its own; the model is shared.

It answers by a call of a tool of its own, so its answer is no streamed text, and there is a fourth call. It tells the
model of earlier calls in plain text, which the simulated model cannot follow; so the plan of each next turn is in the
tool's result instead of the prompt, where the model finds it as it finds the first one.
"""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from contender import AskThread, Options, Said, serve_threads
from openai import DefaultHttpxClient
from openai_client import TIMEOUT, limits
from smolagents import LogLevel, OpenAIModel, ToolCallingAgent, tool
from weather_tools import INSTRUCTIONS, convert_blocking, weather_blocking


def _line(turn: Any) -> str:
    return f"[[plan {json.dumps({'turns': [turn]})}]]"


@contextmanager
def service(options: Options) -> Generator[AskThread]:
    plan = json.loads(options.plan.removeprefix("[[plan ").removesuffix("]]"))
    first, second = plan["turns"]
    last = {"calls": [{"tool": "final_answer", "arguments": {"answer": options.answer}}]}

    def weather(city: str) -> str:
        """Current weather in a city.

        Args:
            city: the city's name.
        """
        return f"{weather_blocking(city)}\n{_line(second)}"

    def convert(celsius: float) -> str:
        """Degrees Celsius in Fahrenheit.

        Args:
            celsius: the temperature.
        """
        return f"{convert_blocking(celsius)}\n{_line(last)}"

    with DefaultHttpxClient(limits=limits(options), timeout=TIMEOUT) as http_client:
        model = OpenAIModel(
            "simulated",
            api_base=options.base_url,
            api_key="none",
            client_kwargs={"http_client": http_client, "timeout": 600.0},
        )
        tools = [tool(weather), tool(convert)]

        def ask(prompt: str) -> Said:
            agent = ToolCallingAgent(tools=tools, model=model, instructions=INSTRUCTIONS, verbosity_level=LogLevel.OFF)
            return Said(agent.run(prompt.replace(options.plan, _line(first))))

        yield ask


if __name__ == "__main__":
    serve_threads(service)
