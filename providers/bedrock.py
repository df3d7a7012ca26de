"""`Bedrock`: any model of Amazon Bedrock, by its Converse API."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from .aws import KEY_VARIABLE, bedrock_url, is_aws
from .dialects.bedrock import ConverseDialect
from .endpoint import Endpoint
from .http import AsyncClient, Timeouts
from .signing import Signer


class Bedrock(Endpoint):
    """A model behind Bedrock's ``Converse`` and ``ConverseStream``.

    With a Bedrock API key nothing else is needed: it goes as a bearer token, and is looked up in
    ``AWS_BEARER_TOKEN_BEDROCK`` at the first call. With other credentials of AWS each request must be signed, which is
    the part of `signer`. One made with botocore (the version does not matter; greenroom does not depend on it)::

        import anyio.to_thread
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.session import Session

        credentials = Session().get_credentials()  # from the environment, a profile, the machine's role …

        async def signer(request: UnsignedRequest) -> dict[str, str]:
            # In a thread, because credentials of a role are fetched over the network when they expire.
            frozen = await anyio.to_thread.run_sync(credentials.get_frozen_credentials)
            signed = AWSRequest(request.method, request.url, {"content-type": "application/json"}, request.body)
            SigV4Auth(frozen, "bedrock", "us-east-1").add_auth(signed)
            return dict(signed.headers)

        model = Bedrock("amazon.nova-lite-v1:0", region="us-east-1", signer=signer)

    What a model has of its own goes into `settings` as ``extra={"additionalModelRequestFields": {…}}``, guardrails and
    Bedrock's own tools likewise as ``guardrailConfig`` and ``toolConfig``.

    Args:
        model: the id of a model or an inference profile, or an ARN of either.
        region: the region, like ``eu-central-1``; by default that of an ARN, else ``AWS_REGION``, else
            ``AWS_DEFAULT_REGION``, else ``us-east-1``.
        base_url: another endpoint than the region's, up to and without ``/model``.
        api_key: a Bedrock API key. At an endpoint outside AWS no key is looked up.
        signer: called with each request for its signature; then no key is sent.
        client: your own ``httpx.AsyncClient``, which stays yours to close.
        timeouts: deadlines of a call; by default those of `Timeouts`.
        headers: added to every request.
        name: the short name, for messages and telemetry.
        wall_clock: seconds since 1970.

    Raises:
        TypeError: an argument is of a type that has no meaning here.
        ValueError: `region` or `base_url` makes no URL, both a key and a signer are given, or a header cannot be sent.
    """

    def __init__(
        self,
        model: str,
        *,
        region: str | None = None,
        base_url: str | None = None,
        api_key: str | None = None,
        signer: Signer | None = None,
        client: AsyncClient | None = None,
        timeouts: Timeouts | None = None,
        headers: Mapping[str, str] | None = None,
        name: str = "bedrock",
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        if not isinstance(model, str) or not model.strip():  # pyright: ignore[reportUnnecessaryIsInstance]
            wrong = TypeError if not isinstance(model, str) else ValueError  # pyright: ignore[reportUnnecessaryIsInstance]
            raise wrong(f"Bedrock(model) must be the model's id, like 'amazon.nova-lite-v1:0', not {model!r}")
        if api_key is not None and signer is not None:
            raise ValueError("give api_key= or signer=, not both: a request is signed or carries a key")
        model = model.strip()
        if base_url is None:
            base_url = bedrock_url(region, model)
        super().__init__(
            ConverseDialect(model),
            name=name,
            model=model,
            base_url=base_url,
            api_key=api_key,
            key_variable=KEY_VARIABLE if signer is None and is_aws(base_url) else None,
            client=client,
            timeouts=timeouts,
            headers=headers,
            wall_clock=wall_clock,
            signer=signer,
        )
