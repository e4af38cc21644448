"""a2a-sdk 1.3.0 for Python, driven by lines of JSON. It is the strict reader of all 1.0 replies as well."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import lines
from a2a.client import ClientCallContext, ClientConfig, ClientFactory
from a2a.client.auth import AuthInterceptor, InMemoryContextCredentialStore
from a2a.client.client import Client
from a2a.types import a2a_pb2 as pb
from a2a.utils.errors import JSON_RPC_ERROR_CODE_MAP, A2AError
from a2a.utils.signing import create_signature_verifier
from google.protobuf import json_format
from google.protobuf.message import Message as Proto
from google.rpc import error_details_pb2
from lines import slim

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
) -> Client:
    """`header` is a token that goes with all requests, `schemes` has one for each security scheme of the card."""
    other = {"JSONRPC": "HTTP+JSON", "HTTP+JSON": "JSONRPC"}[binding]
    config = ClientConfig(
        httpx_client=lines.http(header, cert and tuple(cert)),
        supported_protocol_bindings=[binding, other],
        use_client_preference=True,
        streaming=streaming,
        polling=polling,
    )
    verifier = create_signature_verifier(lines.key_of, ["ES256", "EdDSA"]) if verify else None
    store = InMemoryContextCredentialStore()
    for scheme, token in (schemes or {}).items():
        await store.set_credentials("interop", scheme, token)
    interceptors = [AuthInterceptor(store)]
    client = await ClientFactory(config).create_from_url(url, interceptors, signature_verifier=verifier)
    if extended:
        # What a caller would have whose card promises more than the agent keeps.
        client._card.capabilities.extended_agent_card = True
        client = ClientFactory(config).create(client._card, interceptors)
    return client


def session() -> ClientCallContext:
    """Whose tokens an `AuthInterceptor` takes; for one call, because it leaves them there."""
    return ClientCallContext(state={"sessionId": "interop"})


# To the SDK's types


def part_of(part: dict[str, Any]) -> pb.Part:
    if "text" in part:
        return pb.Part(text=part["text"])
    if "data" in part:
        made = pb.Part()
        json_format.ParseDict(part["data"], made.data)
        return made
    about = {"filename": part["name"], "media_type": part["type"]}
    if "bytes" in part:
        return pb.Part(raw=base64.b64decode(part["bytes"]), **about)
    return pb.Part(url=part["url"], **about)


def message_of(message: dict[str, Any]) -> pb.Message:
    return pb.Message(
        role=pb.ROLE_USER,
        message_id=message["id"],
        parts=[part_of(part) for part in message["parts"]],
        task_id=message.get("task", ""),
        context_id=message.get("context", ""),
        reference_task_ids=message.get("references", []),
        metadata=message.get("metadata"),
    )


def config_of(push: dict[str, Any], task: str = "") -> pb.TaskPushNotificationConfig:
    authentication = push.get("authentication")
    return pb.TaskPushNotificationConfig(
        task_id=task,
        id=push.get("id", ""),
        url=push["url"],
        token=push.get("token", ""),
        authentication=authentication and pb.AuthenticationInfo(**authentication),
    )


# From the SDK's types


def plain(message: Proto) -> Any:
    return json_format.MessageToDict(message)


def part(part: pb.Part) -> dict[str, Any]:
    match part.WhichOneof("content"):
        case "text":
            return {"text": part.text}
        case "data":
            return {"data": plain(part.data)}
        case "raw":
            bytes = base64.b64encode(part.raw).decode()
            return slim({"bytes": bytes, "name": part.filename, "type": part.media_type})
        case "url":
            return slim({"url": part.url, "name": part.filename, "type": part.media_type})
        case nothing:
            return {"nothing": nothing}


def message(message: pb.Message) -> dict[str, Any]:
    return slim(
        {
            "id": message.message_id,
            "role": pb.Role.Name(message.role).removeprefix("ROLE_").lower(),
            "parts": [part(item) for item in message.parts],
            "task": message.task_id,
            "context": message.context_id,
            "references": list(message.reference_task_ids),
            "metadata": plain(message.metadata),
        }
    )


def status(status: pb.TaskStatus) -> dict[str, Any]:
    state = pb.TaskState.Name(status.state).removeprefix("TASK_STATE_").lower().replace("_", "-")
    return slim(
        {
            "state": state,
            "message": message(status.message) if status.HasField("message") else None,
            "timestamp": status.timestamp.ToJsonString() if status.HasField("timestamp") else None,
        }
    )


def artifact(artifact: pb.Artifact) -> dict[str, Any]:
    return {"id": artifact.artifact_id, "parts": [part(item) for item in artifact.parts]}


def task(task: pb.Task) -> dict[str, Any]:
    return {
        "kind": "task",
        "id": task.id,
        "context": task.context_id,
        "status": status(task.status),
        "artifacts": [artifact(item) for item in task.artifacts],
        "history": [message(item) for item in task.history],
        "metadata": plain(task.metadata),
    }


def event(answer: pb.StreamResponse) -> dict[str, Any]:
    match answer.WhichOneof("payload"):
        case "task":
            return task(answer.task)
        case "message":
            return {"kind": "message", **message(answer.message)}
        case "status_update":
            update = answer.status_update
            return {
                "kind": "status",
                "task": update.task_id,
                "context": update.context_id,
                "status": status(update.status),
            }
        case "artifact_update":
            update = answer.artifact_update
            return {
                "kind": "artifact",
                "task": update.task_id,
                "context": update.context_id,
                "artifact": artifact(update.artifact),
                "append": update.append,
                "last": update.last_chunk,
            }
        case nothing:
            return {"kind": str(nothing)}


def hook(config: pb.TaskPushNotificationConfig) -> dict[str, Any]:
    return slim({"task": config.task_id, "id": config.id, "url": config.url, "token": config.token})


# The calls


async def card(client: Client) -> dict[str, Any]:
    got = await client.get_extended_agent_card(pb.GetExtendedAgentCardRequest(), context=session())
    return {
        "transport": type(client._transport).__name__,
        "name": got.name,
        "description": got.description,
        "version": [interface.protocol_version for interface in got.supported_interfaces][0],
        "streaming": got.capabilities.streaming,
        "push": got.capabilities.push_notifications,
        "extended": got.capabilities.extended_agent_card,
        "skills": [skill.id for skill in got.skills],
    }


async def security(client: Client) -> dict[str, Any]:
    """What the card says of credentials."""
    kinds = {
        "http_auth_security_scheme": "http",
        "api_key_security_scheme": "apiKey",
        "mtls_security_scheme": "mutualTLS",
    }

    def read(scheme: pb.SecurityScheme) -> dict[str, Any]:
        kind = scheme.WhichOneof("scheme")
        inner = getattr(scheme, kind)
        return slim(
            {
                "type": kinds[kind],
                "scheme": getattr(inner, "scheme", None),
                "in": getattr(inner, "location", None),
                "header": getattr(inner, "name", None),
            }
        )

    card = client._card
    return {
        "schemes": {name: read(scheme) for name, scheme in card.security_schemes.items()},
        "any of": [list(requirement.schemes) for requirement in card.security_requirements],
    }


async def stream(client: Client, **args: Any) -> AsyncIterator[dict[str, Any]]:
    configuration = pb.SendMessageConfiguration(
        history_length=args.get("history"),
        task_push_notification_config=args.get("push") and config_of(args["push"]),
    )
    request = pb.SendMessageRequest(
        message=message_of(args["message"]),
        configuration=configuration,
        metadata=args.get("metadata"),
        tenant=args.get("tenant", ""),
    )
    async for answer in told(client.send_message(request, context=session())):
        yield answer


async def told(answers: AsyncIterator[pb.StreamResponse]) -> AsyncIterator[dict[str, Any]]:
    try:
        async for answer in answers:
            yield event(answer)
    finally:
        await answers.aclose()


async def send(client: Client, **args: Any) -> dict[str, Any]:
    [answer] = [event async for event in stream(client, **args)]
    return answer


async def get(client: Client, id: str, history: int | None = None) -> dict[str, Any]:
    request = pb.GetTaskRequest(id=id, history_length=history)
    return task(await client.get_task(request, context=session()))


async def cancel(client: Client, id: str) -> dict[str, Any]:
    return task(await client.cancel_task(pb.CancelTaskRequest(id=id), context=session()))


def subscribe(client: Client, id: str) -> AsyncIterator[dict[str, Any]]:
    return told(client.subscribe(pb.SubscribeToTaskRequest(id=id), context=session()))


async def list_tasks(client: Client, **args: Any) -> dict[str, Any]:
    if state := args.pop("status", None):
        args["status"] = "TASK_STATE_" + state.upper().replace("-", "_")
    got = await client.list_tasks(json_format.ParseDict(args, pb.ListTasksRequest()), context=session())
    return {
        "tasks": [task(item) for item in got.tasks],
        "next": got.next_page_token,
        "size": got.page_size,
        "total": got.total_size,
    }


async def push_create(client: Client, task: str, push: dict[str, Any]) -> dict[str, Any]:
    return hook(await client.create_task_push_notification_config(config_of(push, task), context=session()))


async def push_get(client: Client, task: str, id: str) -> dict[str, Any]:
    request = pb.GetTaskPushNotificationConfigRequest(task_id=task, id=id)
    return hook(await client.get_task_push_notification_config(request, context=session()))


async def push_list(client: Client, task: str) -> list[dict[str, Any]]:
    request = pb.ListTaskPushNotificationConfigsRequest(task_id=task)
    got = await client.list_task_push_notification_configs(request, context=session())
    return [hook(item) for item in got.configs]


async def push_delete(client: Client, task: str, id: str) -> None:
    request = pb.DeleteTaskPushNotificationConfigRequest(task_id=task, id=id)
    await client.delete_task_push_notification_config(request, context=session())


def refusal(error: Exception) -> dict[str, Any]:
    return {"code": JSON_RPC_ERROR_CODE_MAP.get(type(error))} if isinstance(error, A2AError) else {}


# The strict reader


async def strict(_: None, type: str, value: Any) -> str:
    """Reads without leniency: no unknown member, and written again it is the same, so no name or form is odd."""
    made = error_details_pb2.ErrorInfo() if type == "ErrorInfo" else getattr(pb, type)()
    json_format.ParseDict(value, made)
    again = json_format.MessageToDict(made)
    # Members with default values may be written or not.
    whole = json_format.MessageToDict(made, always_print_fields_with_no_presence=True)
    return "" if within(again, value) and within(value, whole) else f"read as {json.dumps(whole)}"


def within(small: Any, large: Any) -> bool:
    if isinstance(small, dict) and isinstance(large, dict):
        return all(name in large and within(value, large[name]) for name, value in small.items())
    if isinstance(small, list) and isinstance(large, list):
        return len(small) == len(large) and all(map(within, small, large))
    if isinstance(small, str) and isinstance(large, str):
        # Protobuf writes whole seconds without a fraction.
        return small.replace(".000Z", "Z") == large.replace(".000Z", "Z")
    return small == large


CALLS = {
    "card": card,
    "security": security,
    "send": send,
    "stream": stream,
    "get": get,
    "cancel": cancel,
    "subscribe": subscribe,
    "list": list_tasks,
    "push_create": push_create,
    "push_get": push_get,
    "push_list": push_list,
    "push_delete": push_delete,
    "strict": strict,
}


async def open(url: str = "", binding: str = "", **more: Any) -> Client | None:
    return await connect(url, binding, **more) if url else None


if __name__ == "__main__":
    asyncio.run(lines.serve(open, CALLS, refusal))
