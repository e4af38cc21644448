"""a2a-sdk 0.3.26 for Python, driven by lines of JSON."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator
from typing import Any

import lines
from a2a.client import ClientCallContext, ClientConfig, ClientFactory
from a2a.client.auth import AuthInterceptor, InMemoryContextCredentialStore
from a2a.client.base_client import BaseClient
from a2a.client.errors import A2AClientHTTPError, A2AClientJSONRPCError
from a2a.types import (
    Artifact,
    DataPart,
    FilePart,
    FileWithBytes,
    FileWithUri,
    GetTaskPushNotificationConfigParams,
    Message,
    MessageSendConfiguration,
    Part,
    PushNotificationAuthenticationInfo,
    PushNotificationConfig,
    Role,
    Task,
    TaskArtifactUpdateEvent,
    TaskIdParams,
    TaskPushNotificationConfig,
    TaskQueryParams,
    TaskStatus,
    TaskStatusUpdateEvent,
    TextPart,
)
from a2a.utils.signing import create_signature_verifier
from lines import slim

# Whose tokens an `AuthInterceptor` takes.
SESSION = ClientCallContext(state={"sessionId": "interop"})


async def connect(
    url: str,
    binding: str,
    *,
    streaming: bool = False,
    polling: bool = False,
    extended: bool = False,
    verify: bool = False,
    header: str | None = None,
    schemes: dict[str, str] | None = None,
    cert: list[str] | None = None,
) -> BaseClient:
    """`header` is a token that goes with all requests, `schemes` has one for each security scheme of the card."""
    other = {"JSONRPC": "HTTP+JSON", "HTTP+JSON": "JSONRPC"}[binding]
    config = ClientConfig(
        httpx_client=lines.http(header, cert and tuple(cert)),
        supported_transports=[binding, other],
        use_client_preference=True,
        streaming=streaming,
        polling=polling,
    )
    verifier = create_signature_verifier(lines.key_of, ["ES256", "EdDSA"]) if verify else None
    store = InMemoryContextCredentialStore()
    for scheme, token in (schemes or {}).items():
        await store.set_credentials("interop", scheme, token)
    interceptors = [AuthInterceptor(store)]
    client = await ClientFactory.connect(url, config, interceptors=interceptors, signature_verifier=verifier)
    if extended:
        # What a caller would have whose card promises more than the agent keeps.
        promised = client._card.model_copy(update={"supports_authenticated_extended_card": True})
        client = ClientFactory(config).create(promised, interceptors=interceptors)
    return client


# To the SDK's types


def part_of(part: dict[str, Any]) -> Part:
    if "text" in part:
        return Part(TextPart(text=part["text"]))
    if "data" in part:
        return Part(DataPart(data=part["data"]))
    about = {"name": part["name"], "mime_type": part["type"]}
    if "bytes" in part:
        return Part(FilePart(file=FileWithBytes(bytes=part["bytes"], **about)))
    return Part(FilePart(file=FileWithUri(uri=part["url"], **about)))


def message_of(message: dict[str, Any]) -> Message:
    return Message(
        role=Role.user,
        message_id=message["id"],
        parts=[part_of(part) for part in message["parts"]],
        task_id=message.get("task"),
        context_id=message.get("context"),
        reference_task_ids=message.get("references"),
        metadata=message.get("metadata"),
    )


def config_of(push: dict[str, Any]) -> PushNotificationConfig:
    authentication = push.get("authentication")
    return PushNotificationConfig(
        id=push.get("id"),
        url=push["url"],
        token=push.get("token"),
        authentication=authentication
        and PushNotificationAuthenticationInfo(
            schemes=[authentication["scheme"]], credentials=authentication["credentials"]
        ),
    )


# From the SDK's types


def part(part: Part) -> dict[str, Any]:
    match part.root:
        case TextPart(text=text):
            return {"text": text}
        case DataPart(data=data):
            return {"data": data}
        case FilePart(file=FileWithBytes() as file):
            return slim({"bytes": file.bytes, "name": file.name, "type": file.mime_type})
        case FilePart(file=FileWithUri() as file):
            return slim({"url": file.uri, "name": file.name, "type": file.mime_type})


def message(message: Message) -> dict[str, Any]:
    return slim(
        {
            "id": message.message_id,
            "role": message.role.value,
            "parts": [part(item) for item in message.parts],
            "task": message.task_id,
            "context": message.context_id,
            "references": message.reference_task_ids,
            "metadata": message.metadata,
        }
    )


def status(status: TaskStatus) -> dict[str, Any]:
    return slim(
        {
            "state": status.state.value,
            "message": status.message and message(status.message),
            "timestamp": status.timestamp,
        }
    )


def artifact(artifact: Artifact) -> dict[str, Any]:
    return {"id": artifact.artifact_id, "parts": [part(item) for item in artifact.parts]}


def thing(thing: Task | Message | TaskStatusUpdateEvent | TaskArtifactUpdateEvent) -> dict[str, Any]:
    match thing:
        case Task():
            return {
                "kind": "task",
                "id": thing.id,
                "context": thing.context_id,
                "status": status(thing.status),
                "artifacts": [artifact(item) for item in thing.artifacts or []],
                "history": [message(item) for item in thing.history or []],
                "metadata": thing.metadata or {},
            }
        case TaskStatusUpdateEvent():
            return {
                "kind": "status",
                "task": thing.task_id,
                "context": thing.context_id,
                "status": status(thing.status),
                "final": thing.final,
            }
        case TaskArtifactUpdateEvent():
            return {
                "kind": "artifact",
                "task": thing.task_id,
                "context": thing.context_id,
                "artifact": artifact(thing.artifact),
                "append": bool(thing.append),
                "last": bool(thing.last_chunk),
            }
        case Message():
            return {"kind": "message", **message(thing)}


def hook(config: TaskPushNotificationConfig) -> dict[str, Any]:
    inner = config.push_notification_config
    return slim({"task": config.task_id, "id": inner.id, "url": inner.url, "token": inner.token})


# The calls


async def card(client: BaseClient) -> dict[str, Any]:
    got = await client.get_card(context=SESSION)
    return {
        "transport": type(client._transport).__name__,
        "name": got.name,
        "description": got.description,
        "version": got.protocol_version,
        "streaming": bool(got.capabilities.streaming),
        "push": bool(got.capabilities.push_notifications),
        "extended": bool(got.supports_authenticated_extended_card),
        "skills": [skill.id for skill in got.skills],
    }


async def security(client: BaseClient) -> dict[str, Any]:
    """What the card says of credentials."""
    card = client._card
    schemes = {name: scheme.root for name, scheme in (card.security_schemes or {}).items()}
    return {
        "schemes": {
            name: slim(
                {
                    "type": scheme.type,
                    "scheme": getattr(scheme, "scheme", None),
                    "in": getattr(scheme, "in_", None),
                    "header": getattr(scheme, "name", None),
                }
            )
            for name, scheme in schemes.items()
        },
        "any of": [list(requirement) for requirement in card.security or []],
    }


async def events(client: BaseClient, **args: Any) -> AsyncIterator[dict[str, Any]]:
    if "push" in args:
        # A configuration given with the call arrives as a dictionary, which its REST transport cannot read.
        client._config.push_notification_configs = [config_of(args["push"])]
    answers = client.send_message(
        message_of(args["message"]),
        context=SESSION,
        configuration=MessageSendConfiguration(**slim({"history_length": args.get("history")})),
        request_metadata=args.get("metadata"),
    )
    async for answer in told(answers):
        yield answer


async def told(answers: AsyncIterator[Any]) -> AsyncIterator[dict[str, Any]]:
    try:
        async for answer in answers:
            if isinstance(answer, Message):
                yield thing(answer)
            else:
                # The SDK's picture of the task grows inside the first event.
                task, update = answer
                yield thing(copy.deepcopy(task if update is None else update))
    finally:
        await answers.aclose()


async def send(client: BaseClient, **args: Any) -> dict[str, Any]:
    [answer] = [event async for event in events(client, **args)]
    return answer


async def get(client: BaseClient, id: str, history: int | None = None) -> dict[str, Any]:
    return thing(await client.get_task(TaskQueryParams(id=id, history_length=history), context=SESSION))


async def cancel(client: BaseClient, id: str) -> dict[str, Any]:
    return thing(await client.cancel_task(TaskIdParams(id=id), context=SESSION))


def subscribe(client: BaseClient, id: str) -> AsyncIterator[dict[str, Any]]:
    return told(client.resubscribe(TaskIdParams(id=id), context=SESSION))


async def push_create(client: BaseClient, task: str, push: dict[str, Any]) -> dict[str, Any]:
    config = TaskPushNotificationConfig(task_id=task, push_notification_config=config_of(push))
    return hook(await client.set_task_callback(config, context=SESSION))


async def push_get(client: BaseClient, task: str, id: str) -> dict[str, Any]:
    params = GetTaskPushNotificationConfigParams(id=task, push_notification_config_id=id)
    return hook(await client.get_task_callback(params, context=SESSION))


def refusal(error: Exception) -> dict[str, Any]:
    match error:
        case A2AClientJSONRPCError():
            return {"code": error.error.code, "text": error.error.message}
        case A2AClientHTTPError():
            return {"status": error.status_code}
    return {}


CALLS = {
    "card": card,
    "security": security,
    "send": send,
    "stream": events,
    "get": get,
    "cancel": cancel,
    "subscribe": subscribe,
    "push_create": push_create,
    "push_get": push_get,
}

if __name__ == "__main__":
    asyncio.run(lines.serve(connect, CALLS, refusal))
