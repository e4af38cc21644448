"""What both Python drivers share: commands as lines of JSON on stdin, answers on stdout, and every HTTP exchange.

In:  {"n": 1, "call": "send", "client": {"url", "binding", ...}, "args": {...}}, or {"n": 2, "leave": 1} to walk away
     from call 1.
Out: {"n": 1, "result": ...} or {"n": 1, "error": {...}}; a stream first gives {"n": 1, "event": ...} lines; and
     {"raw": {...}} for each exchange when its last byte was read.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import json
import logging
import sys
import warnings
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import jwt

# Longest wait for a reply.
DEADLINE = 30


def out(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


class Witness(httpx.AsyncBaseTransport):
    """Tells what went over the wire, byte for byte, and leaves it as it was."""

    def __init__(self, cert: tuple[str, str] | None) -> None:
        # Whom it trusts is in SSL_CERT_FILE.
        self.inner = httpx.AsyncHTTPTransport(cert=cert, limits=httpx.Limits(max_connections=None))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self.inner.handle_async_request(request)
        kind = response.headers.get("content-type", "")
        raw = {
            "method": request.method,
            "url": str(request.url),
            "version": request.headers.get("a2a-version", ""),
            "request": request.content.decode(),
            "status": response.status_code,
            "type": kind,
            "shown": [name for name in request.headers if name == "authorization" or name.endswith("-key")],
            "challenge": response.headers.get("www-authenticate", ""),
        }
        if kind.startswith("text/event-stream"):
            response.stream = Tee(response.stream, raw)
        else:
            # Here, because some SDKs do not read the body of a refusal.
            out({"raw": {**raw, "body": (await response.aread()).decode()}})
        return response

    async def aclose(self) -> None:
        await self.inner.aclose()


class Tee(httpx.AsyncByteStream):
    def __init__(self, inner: httpx.AsyncByteStream, raw: dict[str, Any]) -> None:
        self.inner, self.raw, self.seen = inner, raw, b""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self.inner:
            self.seen += chunk
            yield chunk

    async def aclose(self) -> None:
        await self.inner.aclose()
        out({"raw": {**self.raw, "body": self.seen.decode(errors="replace")}})


@functools.cache
def http(token: str | None = None, cert: tuple[str, str] | None = None) -> httpx.AsyncClient:
    """Neither proxies nor anything else of the environment; every wait has an end.

    `token` goes with every request, and `cert`, the paths of a certificate and its key, with every handshake.
    """
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return httpx.AsyncClient(transport=Witness(cert), headers=headers, trust_env=False, timeout=DEADLINE)


async def serve(connect: Callable, calls: dict[str, Callable], told: Callable[[Exception], dict[str, Any]]) -> None:
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    reader = asyncio.StreamReader(limit=2**24)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    running: dict[int, asyncio.Task] = {}

    async def answer(n: int, command: dict[str, Any]) -> None:
        try:
            client = await connect(**command["client"])
            call = calls[command["call"]](client, **command.get("args", {}))
            if not inspect.isasyncgen(call):
                out({"n": n, "result": await call})
                return
            try:
                async for event in call:
                    out({"n": n, "event": event})
            finally:
                await call.aclose()
            out({"n": n, "result": None})
        except asyncio.CancelledError:
            out({"n": n, "result": "left"})
        except Exception as error:
            out({"n": n, "error": {"class": type(error).__name__, "text": str(error), **told(error)}})

    while line := await reader.readline():
        command = json.loads(line)
        if "leave" in command:
            running[command["leave"]].cancel()
        else:
            running[command["n"]] = asyncio.create_task(answer(command["n"], command))


def key_of(kid: str, jku: str) -> jwt.PyJWK:
    """The key that a signature names, from where it says."""
    keys = httpx.get(jku, timeout=DEADLINE).raise_for_status().json()["keys"]
    [found] = [key for key in keys if key["kid"] == kid]
    return jwt.PyJWK(found)


def slim(members: dict[str, Any]) -> dict[str, Any]:
    """Without what is absent."""
    return {name: value for name, value in members.items() if value not in (None, "", [], {})}
