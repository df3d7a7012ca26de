"""What machines need of each other, on NATS JetStream: a journal, a dispatcher, a wire and a quota.

Needs the extra ``greenroom[nats]``; nothing else imports this room before somebody asks for such an engine.
"""

from .dispatcher import JetStreamDispatcher
from .errors import EngineAway, EngineError, EngineRefused, NobodyAnswers
from .journal import JetStreamJournal
from .line import Line
from .quota import JetStreamQuota
from .settings import Settings
from .wire import JetStreamWire

__all__ = [
    "EngineAway",
    "EngineError",
    "EngineRefused",
    "JetStreamDispatcher",
    "JetStreamJournal",
    "JetStreamQuota",
    "JetStreamWire",
    "Line",
    "NobodyAnswers",
    "Settings",
]
