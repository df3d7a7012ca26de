"""An MCP server over HTTP in plain Python, that behaves and misbehaves as the arguments of its one tool, ``do``, say.

It prints its port. ``GET /log`` is what it was asked so far, a line for each request with its headers.
"""

from __future__ import annotations

import gzip
import json
import os
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

OPTIONS: dict[str, Any] = json.loads(sys.argv[1]) if len(sys.argv) > 1 else {}
sessions: set[str] = set()
log: list[dict[str, Any]] = []
held = threading.Event()


class Door(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def note(self, what: str) -> None:
        log.append({"what": what, "headers": {name.lower(): value for name, value in self.headers.items()}})

    def answer(self, status: int, body: bytes = b"", kind: str = "application/json", **headers: str) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def result(self, key: Any, result: dict[str, Any], **headers: str) -> None:
        self.answer(200, json.dumps({"jsonrpc": "2.0", "id": key, "result": result}).encode(), **headers)

    def events(self, *pieces: str) -> None:
        """A stream of these, and then the connection is cut."""
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        for piece in pieces:
            self.wfile.write(piece.encode())
            self.wfile.flush()
        self.close_connection = True

    def cut(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def do_GET(self) -> None:
        if self.path == "/log":
            self.answer(200, json.dumps(log).encode())
        elif "last-event-id" in self.headers:
            self.note("resume")
            self.events(event(json.loads(self.headers["last-event-id"]), {"content": [text("the rest")]}))
        else:
            self.note("GET")
            self.answer(405)

    def do_DELETE(self) -> None:
        self.note("DELETE")
        sessions.discard(self.headers.get("mcp-session-id", ""))
        if OPTIONS.get("deaf"):
            held.wait(10)
        self.answer(200)

    def do_POST(self) -> None:
        message = json.loads(self.rfile.read(int(self.headers["content-length"])))
        key, method, params = message.get("id"), message.get("method"), message.get("params") or {}
        self.note(method or "answer")
        if "status" in OPTIONS:
            self.answer(OPTIONS["status"], OPTIONS.get("body", "").encode(), OPTIONS.get("kind", "text/plain"))
            return
        session = self.headers.get("mcp-session-id")
        if method == "initialize":
            name = f"s{len(log)}"
            sessions.add(name)
            info = {"name": "plain", "version": "1"}
            answer = {"protocolVersion": params["protocolVersion"], "capabilities": {"tools": {}}, "serverInfo": info}
            self.result(key, answer, mcp_session_id=name)
        elif session is None:
            self.answer(400, b"no session", "text/plain")
        elif session not in sessions:
            self.answer(404)
        elif method == "tools/list":
            self.result(key, {"tools": [{"name": "do", "inputSchema": {"type": "object"}}]})
        elif method == "tools/call":
            self.do(key, params["arguments"], params.get("_meta") or {})
        elif method == "notifications/cancelled" and OPTIONS.get("deaf"):
            held.wait(5)
            self.answer(202)
        else:
            self.answer(202)

    def do(self, key: Any, arguments: dict[str, Any], meta: dict[str, Any]) -> None:
        what = arguments.get("what", "answer")
        progress = {"progressToken": meta.get("progressToken"), "progress": 1}
        match what:
            case "answer":
                self.result(key, {"content": [text("here")]})
            case "stream":
                note = {"jsonrpc": "2.0", "method": "notifications/progress", "params": progress}
                self.events(f"data: {json.dumps(note)}\n\n", event(key, {"content": [text("streamed")]}), "data: {\n\n")
            case "pings":
                self.events("event: ping\ndata: hello\n\n", event(key, {"content": [text("streamed")]}))
            case "body":
                self.answer(200, arguments["body"].encode())
            case "unauthorised":
                self.answer(401, b'{"error": "invalid_token"}')
            case "another id":
                self.events(event(4711, {"content": [text("streamed")]}))
            case "garbage":
                self.events("data: {\n\n")
            case "drop":
                self.events(": nothing\n\n")
            case "cut":
                self.cut()
            case "resume":
                self.events(f"id: {json.dumps(key)}\nretry: 10\ndata:\n\n")
            case "linger":  # the stream goes on after the answer
                self.send_response(200)
                self.send_header("content-type", "text/event-stream")
                self.end_headers()
                self.wfile.write(event(key, {"content": [text("lingering")]}).encode())
                try:
                    for _ in range(200):
                        self.wfile.write(b": still here\n\n")
                        self.wfile.flush()
                        time.sleep(0.02)
                except OSError:
                    self.note("cut")
                self.close_connection = True
            case "hang":
                held.wait(30)
                self.cut()
            case "status":
                self.answer(arguments["status"], b"<html>sorry</html>", "text/html")
            case "big":
                self.result(key, {"content": [text("x" * arguments["size"])]})
            case "big event":
                self.events(event(key, {"content": [text("x" * arguments["size"])]}))
            case "zipped":
                body = gzip.compress(json.dumps({"jsonrpc": "2.0", "id": key, "result": {"content": []}}).encode())
                self.answer(200, body, content_encoding="gzip")
            case "text":
                self.answer(200, b"hello", "text/plain")
            case "forget":
                sessions.clear()
                self.result(key, {"content": [text("who are you?")]})
            case "redirect":
                self.answer(307, location=arguments["to"])
            case "die":
                os._exit(3)
            case "late":
                time.sleep(arguments["seconds"])
                self.result(key, {"content": [text("at last")]})
            case _:
                self.result(key, {"content": [text(f"what is {what}?")], "isError": True})


def text(words: str) -> dict[str, str]:
    return {"type": "text", "text": words}


def event(key: Any, result: dict[str, Any]) -> str:
    return f"data: {json.dumps({'jsonrpc': '2.0', 'id': key, 'result': result})}\n\n"


def main() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", OPTIONS.get("port", 0)), Door)
    server.daemon_threads = True
    print(server.server_port, flush=True)
    threading.Thread(target=sys.stdin.read).start()
    server.serve_forever()


main()
