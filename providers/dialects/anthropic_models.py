"""What a Claude model can be asked for, read from its name. Pure.

Models of one wire format refuse different fields, and a refusal is a failed run. The versions below are those of
Anthropic's pages on models, effort, adaptive thinking, structured outputs and mid-conversation system messages
(https://platform.claude.com/docs). A name without a version that can be read counts as a current model, because the
older ones do not get new names.
"""

from __future__ import annotations

import re
from typing import Literal

import msgspec

#: How a model is told to think: not at all, with a budget of tokens, or as it sees fit.
ThinkingForm = Literal["none", "budget", "adaptive"]

_VERSION = re.compile(r"claude-(?:([a-z]+)-)?(\d{1,2})(?:[-.](\d{1,2}))?(?!\d)(?:-([a-z]+))?")
_CURRENT = (99, 0)


class Abilities(msgspec.Struct, frozen=True):
    """What one model takes.

    Args:
        max_tokens: what to ask for where the caller did not say; the API wants a number.
        thinking: how it is told to think.
        sampling: whether temperature and top_p may be set.
        prefill: whether a conversation may end with the beginning of the answer.
        structured: whether it takes ``output_config.format``.
        system_turns: whether a system message may stand inside the conversation.
    """

    max_tokens: int
    thinking: ThinkingForm
    sampling: bool
    prefill: bool
    structured: bool
    system_turns: bool


def abilities(model: str) -> Abilities:
    """What the model of this name takes; the name may be an alias, a dated one, or Bedrock's."""
    version, family = _read(model.lower())
    return Abilities(
        max_tokens=16_384 if version >= (3, 7) else 8_192 if version >= (3, 5) else 4_096,
        thinking="adaptive" if version >= (4, 6) else "budget" if version >= (3, 7) else "none",
        sampling=version < (4, 7) or version == _CURRENT,
        prefill=version < (4, 6),
        structured=version >= (4, 1),
        # Named one by one: a model that does not know them refuses the whole request.
        system_turns=(family == "opus" and (4, 8) <= version < _CURRENT) or (family == "fable" and version >= (5, 0)),
    )


def _read(model: str) -> tuple[tuple[int, int], str]:
    """Version and family, for example (4, 5) and ``haiku``."""
    found = _VERSION.search(model)
    if found is None:
        return _CURRENT, ""
    before, major, minor, after = found.groups()
    return (int(major), int(minor or 0)), before or after or ""
