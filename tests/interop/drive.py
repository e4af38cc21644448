"""The four official SDKs as clients: each a program of its own under drivers/, told what to call by lines of JSON."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os

from pathlib import Path
from typing import Any
from uuid import uuid4

from parts import DEADLINE, HERE

JSONRPC, REST = "JSONRPC", "HTTP+JSON"
VERSIONS = {"py03": "0.3", "py10": "1.0", "js03": "0.3", "js10": "1.0"}
NAMES = {
    "py03": "a2a-sdk 0.3.26",
    "py10": "a2a-sdk 1.3.0",
    "js03": "@a2a-js/sdk 0.3.14",
    "js10": "@a2a-js/sdk 1.3.0",
}


class Refused(Exception):
    """The SDK raised an error: its class, text, and the code or status it read."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(json.dumps(error))
        self.error = error


class Driver:
    """One of the programs under drivers/."""

    def __init__(self, sdk: str) -> None:
        self.sdk = sdk
        # Every exchange with an agent, oldest first; the card is fetched before each call and left out.
        self.raws: list[dict[str, Any]] = []
        self.complaints: list[str] = []
        self._news = asyncio.Condition()
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Queue] = {}

    async def start(self, words: list[str], home: Path, ca: str) -> None:
        trust = {"SSL_CERT_FILE": ca, "NODE_EXTRA_CA_CERTS": ca}
        self.child = await asyncio.create_subprocess_exec(
            *words,
            env={"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1", **trust},
            cwd=home,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=2**24,
        )
        self._readers = [asyncio.create_task(self._read()), asyncio.create_task(self._read_complaints())]

    async def _read(self) -> None:
        while line := await self.child.stdout.readline():
            answer = json.loads(line)
            if "raw" in answer:
                if "/.well-known/" not in answer["raw"]["url"]:
                    async with self._news:
                        self.raws.append(answer["raw"])
                        self._news.notify_all()
            else:
                self._answers[answer["n"]].put_nowait(answer)
        for waiting in self._answers.values():
            waiting.put_nowait({"error": {"class": "Gone", "text": "\n".join(self.complaints)}})

    async def _read_complaints(self) -> None:
        while line := await self.child.stderr.readline():
            self.complaints.append(line.decode(errors="replace").rstrip())

    async def raw_after(self, count: int) -> dict[str, Any]:
        """The newest exchange, once there are more than `count`."""
        async with asyncio.timeout(DEADLINE), self._news:
            await self._news.wait_for(lambda: len(self.raws) > count)
        return self.raws[-1]

    def say(self, **command: Any) -> None:
        self.child.stdin.write(json.dumps(command).encode() + b"\n")

    def begin(self, call: str, client: dict[str, Any], args: dict[str, Any]) -> Stream:
        n = next(self._numbers)
        self._answers[n] = asyncio.Queue()
        self.say(n=n, call=call, client=client, args=args)
        return Stream(self, n, self._answers[n])

    async def call(self, call: str, client: dict[str, Any], args: dict[str, Any]) -> Any:
        async with asyncio.timeout(DEADLINE):
            answer = await self.begin(call, client, args).answers.get()
        if "error" in answer:
            raise Refused(answer["error"])
        return answer["result"]

    async def kill(self) -> None:
        # With nothing more to read it ends by itself.
        self.child.stdin.close()
        with contextlib.suppress(ProcessLookupError, TimeoutError):
            async with asyncio.timeout(1):
                await self.child.wait()
        if self.child.returncode is None:
            self.child.kill()
        async with asyncio.timeout(DEADLINE):
            await self.child.wait()
            await asyncio.gather(*self._readers)


class Stream:
    """The events of one call, as they come."""

    def __init__(self, driver: Driver, n: int, answers: asyncio.Queue) -> None:
        self.driver, self.n, self.answers = driver, n, answers
        self.ended = False

    async def next(self) -> dict[str, Any]:
        """The next event; fails when there is none."""
        async with asyncio.timeout(DEADLINE):
            answer = await self.answers.get()
        if "error" in answer:
            raise Refused(answer["error"])
        self.ended = "event" not in answer
        assert not self.ended, f"ended, where an event was due: {answer}"
        return answer["event"]

    async def rest(self) -> list[dict[str, Any]]:
        """All further events up to the end."""
        events = []
        while True:
            async with asyncio.timeout(DEADLINE):
                answer = await self.answers.get()
            if "error" in answer:
                raise Refused(answer["error"])
            if "event" not in answer:
                return events
            events.append(answer["event"])

    async def leave(self) -> None:
        """Walks away: the caller closes its connection."""
        self.driver.say(leave=self.n)
        async with asyncio.timeout(DEADLINE):
            while "event" in (answer := await self.answers.get()):
                pass
        assert answer.get("result") == "left", answer


def message(text: str = "", **members: Any) -> dict[str, Any]:
    return {"id": str(uuid4()), "parts": [{"text": text}], **members}


class Caller:
    """One SDK over one binding, calling one agent. A new client, made from the agent's card, for every call."""

    def __init__(self, driver: Driver, binding: str, url: str, shows: dict[str, Any]) -> None:
        self.driver, self.binding, self.url = driver, binding, url
        # Its credentials, as the driver wants them.
        self.shows = shows
        self.sdk, self.version = driver.sdk, VERSIONS[driver.sdk]

    def __str__(self) -> str:
        return f"{NAMES[self.sdk]} {self.binding}"

    def at(self, agent) -> Caller:
        """The same caller before another agent."""
        return Caller(self.driver, self.binding, agent.url, self.shows)

    def showing(self, **shows: Any) -> Caller:
        """The same caller with these credentials and no other."""
        return Caller(self.driver, self.binding, self.url, shows)

    def having(self, token: str) -> Caller:
        """The same caller with another token, shown in the same way."""
        if "schemes" in self.shows:
            return self.showing(schemes={"bearer": token})
        return self.showing(header=token)

    def having_in_header(self) -> Caller:
        """The same caller without the SDK's own means to show a token."""
        return self.showing(header=self.shows["schemes"]["bearer"]) if "schemes" in self.shows else self

    def client(self, **how: Any) -> dict[str, Any]:
        return {"url": self.url, "binding": self.binding, **self.shows, **how}

    async def card(self, **how: Any) -> dict[str, Any]:
        return await self.driver.call("card", self.client(**how), {})

    async def send(self, what: str | dict[str, Any], *, polling: bool = False, **args: Any) -> dict[str, Any]:
        args["message"] = message(what) if isinstance(what, str) else what
        return await self.driver.call("send", self.client(polling=polling), args)

    def stream(self, what: str | dict[str, Any], **args: Any) -> Stream:
        args["message"] = message(what) if isinstance(what, str) else what
        return self.driver.begin("stream", self.client(streaming=True), args)

    def subscribe(self, id: str) -> Stream:
        return self.driver.begin("subscribe", self.client(streaming=True), {"id": id})

    async def get(self, id: str, **args: Any) -> dict[str, Any]:
        return await self.driver.call("get", self.client(), {"id": id, **args})

    async def cancel(self, id: str) -> dict[str, Any]:
        return await self.driver.call("cancel", self.client(), {"id": id})

    async def call(self, name: str, **args: Any) -> Any:
        return await self.driver.call(name, self.client(), args)


async def drivers(pythons: dict[str, str], node: str, modules: str, home: Path, ca: str) -> list[Driver]:
    """All four, started at once; they trust `ca`."""
    started = [Driver(sdk) for sdk in VERSIONS]
    for driver in started:
        folder = HERE / "drivers"
        if driver.sdk in pythons:
            words = [pythons[driver.sdk], str(folder / f"{driver.sdk}.py")]
        else:
            words = [node, str(folder / f"{driver.sdk}.mjs"), modules]
        await driver.start(words, home, ca)
    return started
