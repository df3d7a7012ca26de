"""What machines need of each other, on NATS JetStream: a journal, a dispatcher, a wire and a quota.

Needs the extra ``greenroom[nats]``; nothing else imports this room before somebody asks for such an engine.
"""

__all__: list[str] = []
