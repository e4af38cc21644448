"""The programs that take part: the agent under test, aimock, and a provider whose every word a check decides."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent

# Longest wait for anything that must happen.
DEADLINE = 30

# What aimock takes for a key; the agents have it from their environment.
KEY = "sk-interop-0123456789abcdefghijklmnop"


class Process:
    """A program that says on one of its streams where it listens. Killed at the end, by its own id."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.url = ""
        self.child: asyncio.subprocess.Process | None = None
        self._news = asyncio.Condition()
        self._ended = False

    async def start(self, words: list[str], variables: dict[str, str], home: Path, mark: str) -> None:
        # Nothing of the machine's own settings, keys or proxies reaches it.
        environment = {"PATH": os.environ["PATH"], "HOME": str(home), **variables}
        self.child = await asyncio.create_subprocess_exec(
            *words,
            env=environment,
            cwd=home,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        self._reader = asyncio.create_task(self._read())
        line = await self.wait_for(mark)
        self.url = line[line.index("http") :].strip()

    async def _read(self) -> None:
        while line := await self.child.stdout.readline():
            async with self._news:
                self.lines.append(line.decode(errors="replace").rstrip("\n"))
                self._news.notify_all()
        async with self._news:
            self._ended = True
            self._news.notify_all()

    async def wait_for(self, text: str) -> str:
        """The first line that holds `text`, already said or yet to come."""

        def found() -> str | None:
            return next((line for line in self.lines if text in line), None)

        async with asyncio.timeout(DEADLINE), self._news:
            await self._news.wait_for(lambda: found() or self._ended)
        line = found()
        assert line is not None, f"ended without saying {text!r}:\n{self.log}"
        return line

    @property
    def log(self) -> str:
        return "\n".join(self.lines)

    async def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Ends it and returns its exit code."""
        if self.child.returncode is None:
            self.child.send_signal(how)
        async with asyncio.timeout(DEADLINE):
            code = await self.child.wait()
            await self._reader
        return code

    async def kill(self) -> None:
        if self.child is not None and self.child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.child.kill()
            async with asyncio.timeout(DEADLINE):
                await self.child.wait()


class Agent(Process):
    """`tetherlet run --port 0` with a configuration and variables of its own."""

    async def run(self, binary: str, home: Path, toml: str, variables: dict[str, str]) -> None:
        # Its own directory: the working directory is part of an agent's name.
        home = Path(tempfile.mkdtemp(dir=home))
        config = home / "agent.toml"
        config.write_text(toml)
        words = [binary, "run", "--port", "0", "--log-level", "debug", "--config", str(config)]
        await self.start(words, variables, home, "listening on http")


class Aimock(Process):
    """aimock with the fixtures beside this file, on a port that the system chose."""

    async def run(self, node: str, script: str, home: Path) -> None:
        words = [node, script, "--port", "0", "--fixtures", str(HERE / "fixtures.json")]
        words += ["--validate-on-load", "--log-level", "info"]
        await self.start(words, {"AIMOCK_API_KEYS": KEY}, home, "listening on http://")

    async def asked(self, http, text: str) -> list[dict]:
        """The requests whose last message holds `text`, oldest first."""
        reply = await http.get(f"{self.url}/__aimock/journal", headers={"authorization": f"Bearer {KEY}"})
        reply.raise_for_status()
        return [
            entry
            for entry in reply.json()
            if (entry["body"] or {}).get("messages") and text in json.dumps(entry["body"]["messages"][-1])
        ]


class Call:
    """One request that a `Provider` got, answered word by word."""

    def __init__(self, head: str, body: dict, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.head = head
        self.body = body
        self._writer = writer
        self.left = asyncio.create_task(self._until_end(reader))
        head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
        writer.write(head.encode())

    @staticmethod
    async def _until_end(reader: asyncio.StreamReader) -> None:
        """Done when the other side has closed the connection."""
        with contextlib.suppress(ConnectionError):
            while await reader.read(4096):
                pass

    @property
    def text(self) -> str:
        return self.body["messages"][-1]["content"]

    async def say(self, text: str, finish: str | None = None) -> None:
        delta = {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]}
        with contextlib.suppress(ConnectionError):
            self._writer.write(f"data: {json.dumps(delta)}\n\n".encode())
            await self._writer.drain()

    async def end(self) -> None:
        await self.say("", "stop")
        with contextlib.suppress(ConnectionError):
            self._writer.write(b"data: [DONE]\n\n")
            await self._writer.drain()
            self._writer.close()
            await self._writer.wait_closed()


class Post:
    """One request that a `Hook` got."""

    def __init__(self, head: str, body: bytes) -> None:
        first, *fields = head.strip().split("\r\n")
        self.method = first.split(" ")[0]
        self.headers = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
        self.body = body.decode()

    def __repr__(self) -> str:
        return f"{self.method} {self.headers} {self.body}"


class Hook:
    """An address for push notifications and what came there."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.posts: asyncio.Queue[Post] = asyncio.Queue()

    async def next(self) -> Post:
        async with asyncio.timeout(DEADLINE):
            return await self.posts.get()


class Hooks:
    """A receiver of push notifications that takes every one."""

    def __init__(self) -> None:
        self._hooks: dict[str, Hook] = {}

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def hook(self) -> Hook:
        path = f"/hook/{len(self._hooks)}"
        self._hooks[path] = hook = Hook(f"http://127.0.0.1:{self.port}{path}?a=1")
        return hook

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head, body = await read_request(reader)
                path = head.split(" ")[1]
                self._hooks[path.removesuffix("?a=1")].posts.put_nowait(Post(head, body))
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                await writer.drain()
        writer.close()

    async def stop(self) -> None:
        self._server.close()


async def read_request(reader: asyncio.StreamReader) -> tuple[str, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    fields = head.lower()
    if "transfer-encoding: chunked" in fields:
        body = b""
        while size := int((await reader.readline()).strip(), 16):
            body += await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
    else:
        length = next(line for line in fields.split("\r\n") if line.startswith("content-length:"))
        body = await reader.readexactly(int(length.split(":")[1]))
    return head, body


class Provider:
    """An OpenAI-compatible server without a key, whose replies the checks write themselves.

    A message that begins with `echo ` is answered with its own words at once; every other one waits for
    `next_call`.
    """

    def __init__(self) -> None:
        self.connections = 0
        self._calls: asyncio.Queue[Call] = asyncio.Queue()
        self._all: list[Call] = []

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    @property
    def variables(self) -> dict[str, str]:
        """What makes an agent use it."""
        return {
            "LLAMACPP_BASE_URL": f"http://127.0.0.1:{self.port}/v1",
            "TETHERLET_MODEL_DEFAULT": "llamacpp/scripted",
        }

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            head, body = await read_request(reader)
        except (ConnectionError, asyncio.IncompleteReadError):
            writer.close()
            return
        call = Call(head.lower(), json.loads(body), reader, writer)
        self._all.append(call)
        if call.text.startswith("echo "):
            for word in call.text.split(" ")[1:]:
                await call.say(word + " ")
            await call.end()
        else:
            self._calls.put_nowait(call)

    async def next_call(self, text: str | None = None) -> Call:
        """The next request; with `text`, the one whose message it is, and those before it are let go."""
        async with asyncio.timeout(DEADLINE):
            while True:
                call = await self._calls.get()
                if text in (None, call.text):
                    return call
                await call.end()

    async def let_go(self) -> None:
        """Ends every request that still waits, so that a check that failed does not keep what the next one needs."""
        for call in self._all:
            if not call.left.done():
                await call.end()
        self._all.clear()

    async def stop(self) -> None:
        self._server.close()
