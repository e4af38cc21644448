"""aimock as OpenAI and as Anthropic behind the agent: replies, refusals, cuts, and what the provider was asked."""

from __future__ import annotations

import asyncio
import json

from a2a.types import Task, TaskState

from parts import DEADLINE, KEY, Call
from sdk import (
    cancel,
    connect,
    events_of,
    get,
    is_one_story,
    message,
    reply,
    said,
    send,
    stream,
    streamed,
)

CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def for_both_forms(function):
    """The same fact for each kind of provider."""

    def named(agent_name: str, form: str):
        async def fact(world):
            await function(world, getattr(world, agent_name))

        fact.__name__ = f"{form}_{function.__name__}"
        CHECKS.append(fact)

    named("openai", "openai")
    named("anthropic", "anthropic")
    return function


ALPHABET = "alpha bravo charlie delta echo foxtrot golf hotel"


async def last_request(world, agent, text: str) -> dict:
    path = "/v1/chat/completions" if agent is world.openai else "/v1/messages"
    entries = [entry for entry in await world.aimock.asked(world.http, text) if entry["path"] == path]
    assert entries, f"nothing at {path}"
    return entries[-1]


async def run(world, *arguments: str, **variables: str) -> tuple[int, str, str]:
    """The command line, to its end: exit code, output, complaints."""
    child = await start(world, *arguments, **variables)
    async with asyncio.timeout(DEADLINE):
        out, err = await child.communicate()
    return child.returncode, out.decode(), err.decode()


async def start(world, *arguments: str, **variables: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        world.binary,
        *arguments,
        env={"PATH": "/usr/bin:/bin", "HOME": str(world.home), **variables},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


# Replies


@for_both_forms
async def reply_is_streamed_in_pieces(world, agent):
    events = await stream(world, agent, "please say the alphabet")
    is_one_story(events, TaskState.completed)
    assert streamed(events) == said(events[-1]) == ALPHABET
    task = await get(world, agent, events[0].id)
    assert reply(task) == ALPHABET
    assert [artifact.artifact_id for artifact in task.artifacts] == ["reply"]


@for_both_forms
async def reply_is_whole_for_a_blocking_caller(world, agent):
    task = await send(world, agent, "please say the alphabet")
    assert task.status.state == TaskState.completed
    assert reply(task) == said(task) == ALPHABET


@for_both_forms
async def reply_keeps_every_script_even_when_cut_between_halves_of_a_letter(world, agent):
    events = await stream(world, agent, "say it in many scripts")
    is_one_story(events, TaskState.completed)
    wanted = 'Grüße 🦀🦀 日本語 العربية "quoted" \\ tab\tline\nend é👩‍🚀'
    assert streamed(events) == wanted, streamed(events)


@for_both_forms
async def thoughts_are_not_part_of_the_reply(world, agent):
    events = await stream(world, agent, "think first, please")
    is_one_story(events, TaskState.completed)
    assert streamed(events) == "the answer is seven"


@for_both_forms
async def conversation_goes_along_within_its_context_only(world, agent):
    context = f"conversation-{agent.url}"
    first = await send(world, agent, message("my first question", context_id=context))
    assert reply(first) == "first answer"
    await send(world, agent, message("my first question", context_id="somewhere else"))
    second = await send(world, agent, message("my second question", context_id=context))
    assert reply(second) == "second answer"
    body = (await last_request(world, agent, "my second question"))["body"]
    spoken = [(m["role"], m["content"]) for m in body["messages"] if m["role"] != "system"]
    assert spoken == [
        ("user", "my first question"),
        ("assistant", "first answer"),
        ("user", "my second question"),
    ], spoken


@for_both_forms
async def tokens_are_counted_as_the_provider_counts_them(world, agent):
    task = await send(world, agent, "count your tokens")
    assert (task.metadata["inputTokens"], task.metadata["outputTokens"]) == (11, 22), task.metadata
    assert task.metadata["finishReason"] == "stop", task.metadata
    assert task.metadata["model"].startswith("openai/" if agent is world.openai else "anthropic/"), task.metadata


@check
async def openai_is_asked_in_its_own_form(world):
    await send(world, world.openai, "please say the alphabet")
    entry = await last_request(world, world.openai, "please say the alphabet")
    assert entry["method"] == "POST" and entry["path"] == "/v1/chat/completions"
    assert entry["headers"]["content-type"] == "application/json"
    assert "x-api-key" not in entry["headers"]
    body = entry["body"]
    assert body["stream"] is True and body["stream_options"] == {"include_usage": True} and body["model"], body
    assert body["messages"] == [{"role": "user", "content": "please say the alphabet"}], body


@check
async def anthropic_is_asked_in_its_own_form(world):
    await send(world, world.anthropic, "please say the alphabet")
    entry = await last_request(world, world.anthropic, "please say the alphabet")
    assert entry["method"] == "POST" and entry["path"] == "/v1/messages"
    assert entry["headers"]["anthropic-version"]
    assert "x-api-key" in entry["headers"] and "authorization" not in entry["headers"]
    body = entry["body"]
    assert body["stream"] is True and body["model"] and body["max_tokens"] == 321, body
    # The system prompt stands beside the conversation; aimock shows it as its first message.
    told = json.dumps(body)
    assert "You answer for a test." in told, told
    assert [m["content"] for m in body["messages"] if m["role"] == "user"] == ["please say the alphabet"], body


@check
async def a_provider_without_a_key_gets_no_authorization(world):
    asked = asyncio.create_task(send(world, world.relay, "who am I"))
    call: Call = await world.provider.next_call()
    assert "authorization:" not in call.head and "x-api-key:" not in call.head, call.head
    assert call.body["stream"] is True
    await call.say("nobody")
    await call.end()
    assert reply(await asked) == "nobody"


@check
async def both_forms_stream_to_many_callers_at_once(world):
    agents = [world.openai, world.anthropic] * 8
    results = await asyncio.gather(*(stream(world, agent, "please say the alphabet") for agent in agents))
    for events in results:
        is_one_story(events, TaskState.completed)
        assert streamed(events) == ALPHABET


@check
async def neither_start_nor_card_contacts_the_provider(world):
    before = world.provider.connections
    agent = await world.agent(**world.provider.variables)
    client = await connect(world, agent)
    await client.get_card()
    assert reply(await send(world, agent, "2*2")) == "4"
    assert world.provider.connections == before


@check
async def start_up_says_which_provider_will_see_messages(world):
    line = await world.anthropic.wait_for("anthropic")
    assert KEY not in line
    await world.openai.wait_for("openai")


# What goes wrong


@for_both_forms
async def cut_in_the_middle_fails_the_task_and_keeps_what_came(world, agent):
    whole = "kept words that were written before the cut came"
    events = await stream(world, agent, "be cut off")
    is_one_story(events, TaskState.failed)
    kept = streamed(events)
    assert kept and whole.startswith(kept) and kept != whole, kept
    task = await get(world, agent, events[0].id)
    assert task.status.state == TaskState.failed
    assert reply(task) == kept, reply(task)
    assert said(task) and said(task) != kept, said(task)


@for_both_forms
async def connection_lost_before_a_word_fails_the_task(world, agent):
    task = await send(world, agent, "vanish at once")
    assert task.status.state == TaskState.failed and not reply(task), task
    assert said(task), task


@for_both_forms
async def answer_that_is_no_answer_fails_the_task(world, agent):
    task = await send(world, agent, "talk nonsense")
    assert task.status.state == TaskState.failed and not reply(task), task
    assert said(task), task


@for_both_forms
async def limit_429_fails_the_task_with_the_time_to_wait(world, agent):
    events = await stream(world, agent, "go over the limit")
    is_one_story(events, TaskState.failed)
    assert len(events) == 2, events
    text = said(events[-1])
    assert "7 s" in text, text
    assert "sk-abc" not in text, text


@for_both_forms
async def error_500_fails_the_task_with_its_status(world, agent):
    task = await send(world, agent, "break down")
    assert task.status.state == TaskState.failed and not task.artifacts, task
    assert "500" in said(task), said(task)


@for_both_forms
async def reply_at_the_token_limit_says_so_to_both_kinds_of_callers(world, agent):
    task = await send(world, agent, "run out of tokens")
    assert reply(task) == "only the beginning"
    assert task.metadata["finishReason"] == "length", task
    events = await stream(world, agent, "run out of tokens")
    assert streamed(events) == "only the beginning"
    assert events[-1].metadata["finishReason"] == "length", events[-1]


@for_both_forms
async def wish_for_a_tool_is_no_reply(world, agent):
    task = await send(world, agent, "use a tool")
    assert task.status.state == TaskState.failed and "tool" in said(task), task


@check
async def a_model_that_ends_without_a_word_has_not_replied(world):
    asked = asyncio.create_task(stream(world, world.relay, "keep silent"))
    await (await world.provider.next_call()).end()
    events = await asked
    is_one_story(events, TaskState.failed)
    assert len(events) == 2 and said(events[-1]), events


@for_both_forms
async def unknown_to_the_provider_fails_the_task(world, agent):
    task = await send(world, agent, "no fixture knows this")
    assert task.status.state == TaskState.failed and said(task), task


@check
async def a_wrong_key_is_named_by_its_source_and_never_shown(world):
    task = await send(world, world.wrong_key, "please say the alphabet")
    assert task.status.state == TaskState.failed
    text = said(task)
    assert "401" in text and "OPENAI_API_KEY" in text, text
    assert "sk-wrong" not in text and "sk-wrong" not in world.wrong_key.log


@check
async def an_agent_whose_provider_is_gone_says_so(world):
    # A port that was free a moment ago and that nobody listens on.
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    agent = await world.agent(LLAMACPP_BASE_URL=f"http://127.0.0.1:{port}/v1", TETHERLET_MODEL_DEFAULT="llamacpp/gone")
    task = await send(world, agent, "anybody there?")
    assert task.status.state == TaskState.failed and said(task), task
    assert reply(await send(world, agent, "2*2")) == "4"


@check
async def a_slow_stream_of_aimock_can_be_canceled(world):
    client = await connect(world, world.openai)
    answers = events_of(client.send_message(message("count forever")))
    first = await anext(answers)
    assert isinstance(first, Task)
    pieces = []
    while streamed(pieces) != "one two ":
        pieces.append(await anext(answers))
    canceled = await cancel(world, world.openai, first.id)
    assert canceled.status.state == TaskState.canceled and reply(canceled) == "one two "
    is_one_story([first, *pieces, *[event async for event in answers]], TaskState.canceled)
    assert await get(world, world.openai, first.id) == canceled


@check
async def after_all_these_failures_replies_still_come(world):
    for agent in (world.openai, world.anthropic):
        assert reply(await send(world, agent, "please say the alphabet")) == ALPHABET


# The command line


@check
async def send_stream_prints_the_reply_of_either_provider(world):
    for agent in (world.openai, world.anthropic):
        code, out, err = await run(world, "send", "--stream", agent.url, "please say the alphabet")
        assert (code, out.strip()) == (0, ALPHABET), (code, out, err)


@check
async def send_stream_prints_words_as_they_arrive(world):
    child = await start(world, "send", "--stream", world.relay.url, "speak slowly")
    call = await world.provider.next_call()
    async with asyncio.timeout(DEADLINE):
        for word in ("uno ", "dos ", "tres"):
            # The next word is not said before this one was printed.
            await call.say(word)
            assert await child.stdout.readexactly(len(word)) == word.encode()
        await call.end()
        out, err = await child.communicate()
    assert (child.returncode, out.strip()) == (0, b""), (out, err)


@check
async def send_prints_the_whole_reply(world):
    code, out, err = await run(world, "send", world.anthropic.url, "please say the alphabet")
    assert (code, out.strip()) == (0, ALPHABET), (code, out, err)
    code, out, err = await run(world, "send", "please say the alphabet", TETHERLET_URL=world.openai.url)
    assert (code, out.strip()) == (0, ALPHABET), (code, out, err)


@check
async def send_stream_json_prints_tasks_and_updates_of_1_0(world):
    code, out, err = await run(world, "send", "--stream", "--json", world.openai.url, "please say the alphabet")
    assert code == 0, err
    lines = [json.loads(line) for line in out.splitlines()]
    first, *pieces, last = lines
    kinds = ["Task", *["TaskArtifactUpdateEvent"] * len(pieces), "TaskStatusUpdateEvent"]
    for kind, line in zip(kinds, lines, strict=True):
        assert not (complaint := await world.strict(kind, line)), complaint
    assert first["status"]["state"] == "TASK_STATE_WORKING", first
    assert last["status"]["state"] == "TASK_STATE_COMPLETED", last
    words = [part["text"] for piece in pieces for part in piece["artifact"]["parts"]]
    assert "".join(words) == ALPHABET, words


@check
async def send_stream_fails_when_the_provider_does_and_keeps_what_came(world):
    code, out, err = await run(world, "send", "--stream", world.openai.url, "be cut off")
    assert code == 1, (code, out, err)
    assert out.startswith("kept ") and "failed" in err, (out, err)
    code, out, err = await run(world, "send", "--stream", world.openai.url, "go over the limit")
    assert code == 1 and not out.strip() and "7 s" in err, (code, out, err)
    assert "sk-abc" not in out + err


@check
async def get_prints_a_task_that_the_sdk_made(world):
    task = await send(world, world.openai, "please say the alphabet")
    code, out, err = await run(world, "get", world.openai.url, task.id)
    assert code == 0 and ALPHABET in out, (code, out, err)
    code, out, err = await run(world, "get", "--json", world.openai.url, task.id)
    printed = json.loads(out)
    assert not (complaint := await world.strict("Task", printed)), complaint
    assert (printed["id"], printed["status"]["timestamp"]) == (task.id, task.status.timestamp), printed
    assert [part["text"] for part in printed["artifacts"][0]["parts"]] == [ALPHABET], printed
