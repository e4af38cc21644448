"""Runs every check against one set of running programs and counts."""

from __future__ import annotations

import asyncio
import logging
import signal
import ssl
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

import httpx
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

import doors
import drive
import guarded
import matrix
import models
import sdk
from parts import DEADLINE, KEY, Agent, Aimock, Hooks, Provider

# What one check may take in all.
LONGEST = 2 * DEADLINE


class Room:
    """The agents behind one door, and what of the world the facts about them need."""

    def __init__(self, world: World, door: doors.Door) -> None:
        self.world, self.door = world, door
        self.provider, self.hooks, self.http, self.strict = world.provider, world.hooks, world.http, world.strict
        self.binary, self.home, self.authority = world.binary, world.home, world.authority
        self.agents: list[Agent] = []

    async def agent(self, toml: str = "", **variables: str) -> Agent:
        agent = await self.world.agent(self.door.toml + toml, **self.door.variables, **variables)
        self.agents.append(agent)
        return agent

    async def furnish(self, keys: list[Path]) -> Room:
        self.plain, self.pushing, self.telling, self.openai = await asyncio.gather(
            self.agent(),
            # Where the hooks of the checks are is not where a stranger's hook may be.
            self.agent("[push]\nallow-private = true\n", **self.provider.variables),
            self.agent("[card]\nextended = true\n"),
            self.agent(OPENAI_API_KEY=KEY, OPENAI_BASE_URL=f"{self.world.aimock.url}/v1"),
        )
        self.signed = await asyncio.gather(*(self.agent(f'[card]\nkey-file = "{key}"\n') for key in keys))
        if self.door.is_guarded:
            self.forms = await guarded.forms(self, keys[0])
        return self


class World:
    """Everything that runs while the checks do."""

    def __init__(self, binary: str, home: Path) -> None:
        self.binary = binary
        self.home = home
        self.authority = doors.Authority(home)
        # Neither proxies nor anything else of the environment; every wait has an end.
        self.http = httpx.AsyncClient(
            verify=ssl.create_default_context(cafile=self.authority.ca),
            trust_env=False,
            timeout=DEADLINE,
            limits=httpx.Limits(max_connections=None),
        )
        self.provider = Provider()
        self.hooks = Hooks()
        self.aimock = Aimock()
        self.running: list[Agent | Aimock] = [self.aimock]
        self.drivers: list[drive.Driver] = []

    async def agent(self, toml: str = "", **variables: str) -> Agent:
        agent = Agent()
        self.running.append(agent)
        await agent.run(self.binary, self.home, toml, variables)
        return agent

    async def start(self, python_10: str, node: str, modules: str) -> None:
        await self.provider.start()
        await self.hooks.start()
        pythons = {"py03": sys.executable, "py10": python_10}
        self.drivers = await drive.drivers(pythons, node, modules, self.home, self.authority.ca)
        await self.aimock.run(node, f"{modules}/@copilotkit/aimock/dist/cli.js", self.home)
        self.relay = await self.agent(**self.provider.variables)
        keys = self.keys()
        self.rooms = await asyncio.gather(*(Room(self, door).furnish(keys) for door in doors.doors(self.authority)))
        # What is asked of one SDK alone is asked where nobody shows a thing.
        self.plain, self.openai = self.rooms[0].plain, self.rooms[0].openai
        # One base with the version in its path and one without: both are what people write.
        self.anthropic, self.wrong_key = await asyncio.gather(
            self.agent(
                '[model]\nsystem = "You answer for a test."\nmax-tokens = 321\n',
                ANTHROPIC_API_KEY=KEY,
                ANTHROPIC_BASE_URL=self.aimock.url,
            ),
            self.agent(OPENAI_API_KEY="sk-wrong-0123456789abcdef", OPENAI_BASE_URL=f"{self.aimock.url}/v1"),
        )

    def keys(self) -> list[Path]:
        """A key of each kind that signs cards."""
        made = []
        for private in (ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate()):
            path = self.home / f"{type(private).__name__}.pem"
            path.touch(mode=0o600)
            path.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
            made.append(path)
        return made

    async def strict(self, type: str, value: object) -> str:
        """What a strict reader of protocol 1.0 says against `value`; nothing when it takes it."""
        [reader] = [driver for driver in self.drivers if driver.sdk == "py10"]
        return await reader.call("strict", {}, {"type": type, "value": value})

    async def stop(self) -> None:
        await self.http.aclose()
        for process in [*self.drivers, *self.running]:
            await process.kill()
        await self.hooks.stop()
        await self.provider.stop()


async def main(binary: str, python_10: str, node: str, modules: str, only: str = "") -> int:
    # Whoever ends this ends what it started as well.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asyncio.current_task().cancel)
    passed, failed = 0, 0
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="tetherlet-interop-") as home:
        world = World(binary, Path(home))
        try:
            async with asyncio.timeout(DEADLINE):
                await world.start(python_10, node, modules)
            of_matrix, lacking = matrix.checks(world.drivers, world.rooms, guarded.about)
            own = [*sdk.CHECKS, *models.CHECKS, *guarded.CHECKS]
            checks = [(check.__name__.replace("_", " "), check) for check in own] + of_matrix
            checks = [check for check in checks if only in check[0]]
            for name, check in [*checks, ("every agent drains with exit code 0", every_agent_drains_with_exit_code_0)]:
                try:
                    async with asyncio.timeout(LONGEST):
                        await check(world)
                except Exception:
                    failed += 1
                    print(f"FAILED  {name}\n{traceback.format_exc()}", flush=True)
                else:
                    passed += 1
                    print(f"ok      {name}", flush=True)
            for line in lacking:
                print(f"cannot  {line}", flush=True)
        except Exception:
            failed += 1
            print(f"FAILED  to start\n{traceback.format_exc()}", flush=True)
        finally:
            if failed:
                for driver in world.drivers:
                    print(f"--- {drive.NAMES[driver.sdk]}", *driver.complaints[-60:], sep="\n")
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
        for secret in (KEY, doors.ANNA, doors.ANNA_NEW, doors.BERT, doors.GUEST, doors.WRONG):
            assert secret not in agent.log, "a key or token is in the log"


if __name__ == "__main__":
    # The SDK tells of every retried or odd event; what counts is asserted.
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore", DeprecationWarning)
    sys.exit(asyncio.run(main(*sys.argv[1:])))
