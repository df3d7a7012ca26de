"""Where Amazon Bedrock is, and which key opens it."""

from __future__ import annotations

import os
import re
from urllib.parse import urlsplit

#: The environment variable of a Bedrock API key.
KEY_VARIABLE = "AWS_BEARER_TOKEN_BEDROCK"
_REGION_VARIABLES = ("AWS_REGION", "AWS_DEFAULT_REGION")
_REGION = re.compile(r"[a-z0-9-]+")


def bedrock_url(region: str | None, model: str) -> str:
    """The endpoint of a region: the given one, that of the model's ARN, the environment's, else ``us-east-1``.

    Raises:
        TypeError: the region is no text.
        ValueError: it is no region.
    """
    if region is not None and not isinstance(region, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"region= must be the name of an AWS region, like 'eu-west-1', not {type(region).__name__}")
    pieces = model.split(":")
    told = pieces[3] if pieces[0] == "arn" and len(pieces) > 3 else ""
    known = (region, told, *[os.environ.get(variable) for variable in _REGION_VARIABLES])
    found = next((each.strip() for each in known if each and each.strip()), "us-east-1")
    if not _REGION.fullmatch(found):
        raise ValueError(f"region= must be the name of an AWS region, like 'eu-west-1', not {found!r}")
    return f"https://bedrock-runtime.{found}.amazonaws.com{'.cn' if found.startswith('cn-') else ''}"


def is_aws(base_url: str) -> bool:
    """Whether AWS is there: a key of its environment variable goes nowhere else."""
    try:
        host = urlsplit(base_url).hostname or ""
    except (ValueError, AttributeError):
        return False
    return host.endswith((".amazonaws.com", ".amazonaws.com.cn", ".api.aws"))
