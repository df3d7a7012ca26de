"""An MCP server in plain Python that behaves and misbehaves as it is told. Its argument is a JSON object of options:

- ``tools``: its tools, instead of its own; ``pages``: how many it lists at a time;
- ``start``: what it does instead of answering ``initialize``: hang, die, or a protocol version that nobody has;
- ``before``: what it writes to its standard output first;
- ``stubborn``: whether it outlives the end of its standard input and SIGTERM.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

OPTIONS: dict[str, Any] = json.loads(sys.argv[1]) if len(sys.argv) > 1 else {}
ANY = {"type": "object"}
TOOLS: list[dict[str, Any]] = OPTIONS.get("tools") or [
    {"name": name, "description": f"Does {name}.", "inputSchema": ANY}
    for name in (
        "give",
        "say",
        "die",
        "hang",
        "spawn",
        "ask",
        "env",
        "learn",
        "cancelled",
        "flood",
        "stderr",
        "count",
        "late",
    )
]
waiting: dict[Any, threading.Event] = {}
answers: dict[Any, Any] = {}
cancelled: list[Any] = []
lock = threading.Lock()
served = 0

STUBBORN_CHILD = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", flush=True)
time.sleep(600)
"""


def write(text: str) -> None:
    with lock:
        sys.stdout.write(text)
        sys.stdout.flush()


def send(message: dict[str, Any]) -> None:
    write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")


def ask(number: int, method: str, params: dict[str, Any]) -> Any:
    """Ask the client something, and wait for what it answers."""
    key = f"ours-{number}"
    waiting[key] = threading.Event()
    send({"id": key, "method": method, "params": params})
    waiting[key].wait(10)
    return answers.get(key)


def text(value: object) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": value if isinstance(value, str) else json.dumps(value)}]}


def call(key: Any, name: str, arguments: dict[str, Any], meta: dict[str, Any]) -> dict[str, Any] | None:
    global served
    match name:
        case "give":  # the result is what is given
            return arguments.get("result", text("nothing"))
        case "say":  # these lines are written before the answer
            for line in arguments["lines"]:
                write(
                    line.replace("TOKEN", json.dumps(meta.get("progressToken"))).replace("ID", json.dumps(key)) + "\n"
                )
            return text("said") if arguments.get("then", True) else None
        case "die":
            sys.stderr.write(arguments.get("words", ""))
            sys.stderr.flush()
            if "signal" in arguments:
                os.kill(os.getpid(), arguments["signal"])
            os._exit(arguments.get("code", 3))
        case "hang":
            return None
        case "spawn":  # a child that ignores SIGTERM, and has our standard output where it is told to keep it
            kept = None if arguments.get("keep") else subprocess.PIPE
            child = subprocess.Popen([sys.executable, "-c", STUBBORN_CHILD], stdout=kept, stderr=subprocess.DEVNULL)
            if child.stdout is not None:
                child.stdout.readline()
            return text(child.pid)
        case "ask":
            return text(ask(key, arguments["method"], arguments.get("params", {})))
        case "env":
            return text(dict(os.environ))
        case "learn":  # it has other tools from now on
            TOOLS[:] = [{"name": each, "inputSchema": ANY} for each in arguments["names"]]
            for _ in range(arguments.get("times", 1)):
                send({"method": "notifications/tools/list_changed"})
            return text("learnt")
        case "cancelled":
            deadline = time.monotonic() + 5
            while not cancelled and time.monotonic() < deadline:
                time.sleep(0.005)
            return text(cancelled)
        case "flood":  # megabytes on one line, or of lines
            piece = "x" * 1_048_576 + ("" if arguments.get("line") else "\n")
            for _ in range(arguments["megabytes"]):
                write(piece)
            return text("flooded")
        case "stderr":
            sys.stderr.write(arguments["words"] * arguments.get("times", 1))
            sys.stderr.flush()
            return text("said")
        case "late":
            time.sleep(arguments["seconds"])
            return text("at last")
        case "count":
            served += 1
            return text({"served": served, "pid": os.getpid()})
        case _:
            return {"content": [{"type": "text", "text": f"no tool {name}"}], "isError": True}


def serve(message: dict[str, Any]) -> None:
    key, method, params = message.get("id"), message.get("method"), message.get("params") or {}
    if method is None:
        answers[key] = message.get("result", message.get("error"))
        waiting[key].set()
    elif method == "initialize":
        start = OPTIONS.get("start")
        if start == "die":
            sys.stderr.write("no such key: sk-secret-value\n")
            sys.stderr.flush()
            os._exit(7)
        if start == "hang":
            return
        version = "1999-01-01" if start == "version" else params["protocolVersion"]
        info = {"name": "plain", "version": "1"}
        abilities = {"tools": {"listChanged": True}, "logging": {}}
        send({"id": key, "result": {"protocolVersion": version, "capabilities": abilities, "serverInfo": info}})
    elif method == "tools/list":
        at, size = int(params.get("cursor") or 0), OPTIONS.get("pages") or len(TOOLS) or 1
        page: dict[str, Any] = {"tools": TOOLS[at : at + size]}
        if OPTIONS.get("endless"):
            page = {"tools": [], "nextCursor": str(at + 1)}
        elif at + size < len(TOOLS):
            page["nextCursor"] = str(at + size)
        send({"id": key, "result": page})
    elif method == "tools/call":
        result = call(key, params["name"], params.get("arguments") or {}, params.get("_meta") or {})
        if result is not None:
            send({"id": key, "result": result})
    elif method == "notifications/cancelled":
        cancelled.append(params["requestId"])
    elif key is not None:
        send({"id": key, "error": {"code": -32601, "message": f"no method {method}"}})


def main() -> None:
    if "pid" in OPTIONS:
        Path(OPTIONS["pid"]).write_text(str(os.getpid()))
    if OPTIONS.get("stubborn"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    write(OPTIONS.get("before", ""))
    for line in sys.stdin:
        threading.Thread(target=serve, args=[json.loads(line)], daemon=True).start()
    while OPTIONS.get("stubborn"):
        time.sleep(1)
    os._exit(0)


main()
