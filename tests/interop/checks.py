"""Runs every check against one set of running programs and counts."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

import httpx

import models
import sdk
from parts import DEADLINE, KEY, Agent, Aimock, Provider

# What one check may take in all.
LONGEST = 2 * DEADLINE


class World:
    """Everything that runs while the checks do."""

    def __init__(self, binary: str, home: Path) -> None:
        self.binary = binary
        self.home = home
        # Neither proxies nor anything else of the environment; every wait has an end.
        self.http = httpx.AsyncClient(trust_env=False, timeout=DEADLINE, limits=httpx.Limits(max_connections=None))
        self.provider = Provider()
        self.aimock = Aimock()
        self.running: list[Agent | Aimock] = [self.aimock]

    async def agent(self, toml: str = "", **variables: str) -> Agent:
        agent = Agent()
        self.running.append(agent)
        await agent.run(self.binary, self.home, toml, variables)
        return agent

    async def start(self, node: str, script: str) -> None:
        await self.provider.start()
        _, self.plain, self.relay = await asyncio.gather(
            self.aimock.run(node, script, self.home),
            self.agent(),
            self.agent(**self.provider.variables),
        )
        # One base with the version in its path and one without: both are what people write.
        self.openai, self.anthropic, self.wrong_key = await asyncio.gather(
            self.agent(OPENAI_API_KEY=KEY, OPENAI_BASE_URL=f"{self.aimock.url}/v1"),
            self.agent(
                '[model]\nsystem = "You answer for a test."\nmax-tokens = 321\n',
                ANTHROPIC_API_KEY=KEY,
                ANTHROPIC_BASE_URL=self.aimock.url,
            ),
            self.agent(OPENAI_API_KEY="sk-wrong-0123456789abcdef", OPENAI_BASE_URL=f"{self.aimock.url}/v1"),
        )

    async def stop(self) -> None:
        await self.http.aclose()
        for process in self.running:
            await process.kill()
        await self.provider.stop()


async def main(binary: str, node: str, aimock: str) -> int:
    # Whoever ends this ends what it started as well.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asyncio.current_task().cancel)
    passed, failed = 0, 0
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="tetherlet-interop-") as home:
        world = World(binary, Path(home))
        try:
            async with asyncio.timeout(DEADLINE):
                await world.start(node, aimock)
            for check in [*sdk.CHECKS, *models.CHECKS, every_agent_drains_with_exit_code_0]:
                name = check.__name__.replace("_", " ")
                try:
                    async with asyncio.timeout(LONGEST):
                        await check(world)
                except Exception:
                    failed += 1
                    print(f"FAILED  {name}\n{traceback.format_exc()}", flush=True)
                else:
                    passed += 1
                    print(f"ok      {name}", flush=True)
        except Exception:
            failed += 1
            print(f"FAILED  to start\n{traceback.format_exc()}", flush=True)
        finally:
            if failed:
                for process in world.running:
                    tail = "\n".join(process.lines[-60:])
                    print(f"--- {type(process).__name__} at {process.url}\n{tail}")
            await world.stop()
    print(f"{time.monotonic() - started:.1f} s")
    print(f"{passed} passed, {failed} failed", flush=True)
    return 1 if failed or not passed else 0


async def every_agent_drains_with_exit_code_0(world: World) -> None:
    agents = [process for process in world.running if isinstance(process, Agent)]
    codes = await asyncio.gather(*(agent.stop() for agent in agents))
    assert codes == [0] * len(agents), codes
    for agent in agents:
        assert "panicked" not in agent.log, agent.log
        assert KEY not in agent.log, "a key is in the log"


if __name__ == "__main__":
    # The SDK tells of every retried or odd event; what counts is asserted.
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore", DeprecationWarning)
    sys.exit(asyncio.run(main(*sys.argv[1:])))
