"""An agent with two tools, and what a result holds."""

from greenroom import Agent, tool
from greenroom.providers import Scripted, call


@tool(timeout=10)
async def get_weather(city: str) -> str:
    """Current weather in a city."""
    return f"{city}: 21 degrees, clear"


def convert(celsius: float) -> float:
    """Degrees Celsius in Fahrenheit.

    Args:
        celsius: the temperature.
    """
    return celsius * 9 / 5 + 32


model = Scripted([call("get_weather", city="Tokyo"), call("convert", celsius=21)], "It is clear in Tokyo, 70 °F.")
agent = Agent("helper", model, instructions="Answer in one sentence.", tools=[get_weather, convert])

if __name__ == "__main__":
    result = agent.run_sync("What is the weather in Tokyo?")
    print(result)
    print(result.status, result.reason)
    for message in result.messages:
        for item in message.tool_calls:
            print("called ", item.name, item.arguments)
        for answer in message.tool_results:
            print("result ", answer.content)
