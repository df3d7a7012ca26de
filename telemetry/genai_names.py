"""The names that OpenTelemetry's conventions for generative AI have for what we say, and ours beside them.

The conventions live in a repository of their own (``open-telemetry/semantic-conventions-genai``) and are still being
developed, so no package of constants is depended on, and this is the one place to change. What the conventions have no
name for is under ``greenroom.``.
"""

from __future__ import annotations

# -- operations, the first word of a span's name

CHAT = "chat"
EXECUTE_TOOL = "execute_tool"
INVOKE_AGENT = "invoke_agent"

# -- attributes

AGENT_DESCRIPTION = "gen_ai.agent.description"
AGENT_NAME = "gen_ai.agent.name"
CONVERSATION_ID = "gen_ai.conversation.id"
ENDUSER_ID = "enduser.id"
ERROR_TYPE = "error.type"
OPERATION_NAME = "gen_ai.operation.name"
OUTPUT_TYPE = "gen_ai.output.type"
PROVIDER_NAME = "gen_ai.provider.name"
REQUEST_MAX_TOKENS = "gen_ai.request.max_tokens"
REQUEST_MODEL = "gen_ai.request.model"
REQUEST_SEED = "gen_ai.request.seed"
REQUEST_STOP_SEQUENCES = "gen_ai.request.stop_sequences"
REQUEST_STREAM = "gen_ai.request.stream"
REQUEST_TEMPERATURE = "gen_ai.request.temperature"
REQUEST_TOP_P = "gen_ai.request.top_p"
RESPONSE_FINISH_REASONS = "gen_ai.response.finish_reasons"
RESPONSE_ID = "gen_ai.response.id"
RESPONSE_MODEL = "gen_ai.response.model"
RESPONSE_TIME_TO_FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"
TOKEN_TYPE = "gen_ai.token.type"
TOOL_CALL_ID = "gen_ai.tool.call.id"
TOOL_DESCRIPTION = "gen_ai.tool.description"
TOOL_NAME = "gen_ai.tool.name"
TOOL_TYPE = "gen_ai.tool.type"
USAGE_CACHE_CREATION = "gen_ai.usage.cache_creation.input_tokens"
USAGE_CACHE_READ = "gen_ai.usage.cache_read.input_tokens"
USAGE_INPUT = "gen_ai.usage.input_tokens"
USAGE_OUTPUT = "gen_ai.usage.output_tokens"
USAGE_REASONING = "gen_ai.usage.reasoning.output_tokens"

# Contents.
INPUT_MESSAGES = "gen_ai.input.messages"
OUTPUT_MESSAGES = "gen_ai.output.messages"
SYSTEM_INSTRUCTIONS = "gen_ai.system_instructions"
TOOL_ARGUMENTS = "gen_ai.tool.call.arguments"
TOOL_DEFINITIONS = "gen_ai.tool.definitions"
TOOL_RESULT = "gen_ai.tool.call.result"

# Ours.
COST = "greenroom.cost"
GATE_WAIT_SECONDS = "greenroom.gate.wait"
RUN_ID = "greenroom.run.id"
RUN_PARENT_ID = "greenroom.run.parent_id"
RUN_REASON = "greenroom.run.reason"
RUN_RESTARTS = "greenroom.run.restarts"
RUN_STATUS = "greenroom.run.status"
TOOL_OUTLIVED = "greenroom.tool.outlived"
TRIES = "greenroom.tries"
TURN = "greenroom.turn"

# -- metrics

CLIENT_OPERATION_DURATION = "gen_ai.client.operation.duration"
CLIENT_TIME_TO_FIRST_CHUNK = "gen_ai.client.operation.time_to_first_chunk"
CLIENT_TOKEN_USAGE = "gen_ai.client.token.usage"
EXECUTE_TOOL_DURATION = "gen_ai.execute_tool.duration"
INVOKE_AGENT_DURATION = "gen_ai.invoke_agent.duration"
# Ours.
ACTIVE_RUNS = "greenroom.runs.active"
GATE_WAITS = "greenroom.gate.wait.duration"
OUTLIVED_CALLS = "greenroom.tool.outlived.count"
RESTARTS = "greenroom.run.restart.count"

#: Bounds of histograms, in seconds and in tokens.
SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
LONG_SECONDS = (0.1, 0.5, 1, 2, 5, 10, 20, 60, 120, 300, 600, 1_800, 3_600)
TOKENS = tuple(4**power for power in range(14))

#: The conventions' names of vendors, where they are not ours.
_PROVIDERS = {
    "azure": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
    "vertex": "gcp.vertex_ai",
    "xai": "x_ai",
}


def provider_name(name: str) -> str:
    """The conventions' name of a provider; its own where they have none."""
    return _PROVIDERS.get(name, name)
