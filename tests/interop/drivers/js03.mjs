// @a2a-js/sdk 0.3.14, driven by lines of JSON.
import { pathToFileURL } from 'node:url';
import { fetcher, handler, serve, slim } from './lines.mjs';

const sdk = await import(pathToFileURL(`${process.argv[2]}/a2a-sdk-03/dist/client/index.js`));

async function connect({ url, binding, polling = false, extended = false, ...credentials }) {
  let client;
  const known = handler(credentials, () => (client ? calls.security(client) : { schemes: {} }));
  const fetchImpl = sdk.createAuthenticatingFetchWithRetry(fetcher(credentials), known);
  const options = sdk.ClientFactoryOptions.createFrom(sdk.ClientFactoryOptions.default, {
    transports: [new sdk.JsonRpcTransportFactory({ fetchImpl }), new sdk.RestTransportFactory({ fetchImpl })],
    preferredTransports: [binding],
    clientConfig: { polling },
    cardResolver: new sdk.DefaultAgentCardResolver({ fetchImpl }),
  });
  client = await new sdk.ClientFactory(options).createFromUrl(url);
  // What a caller would have whose card promises more than the agent keeps.
  if (extended) client.agentCard.supportsAuthenticatedExtendedCard = true;
  return client;
}

// To the SDK's types

function partOf(part) {
  if ('text' in part) return { kind: 'text', text: part.text };
  if ('data' in part) return { kind: 'data', data: part.data };
  const content = 'bytes' in part ? { bytes: part.bytes } : { uri: part.url };
  return { kind: 'file', file: { ...content, name: part.name, mimeType: part.type } };
}

const messageOf = (message) => ({
  kind: 'message',
  messageId: message.id,
  role: 'user',
  parts: message.parts.map(partOf),
  taskId: message.task,
  contextId: message.context,
  referenceTaskIds: message.references,
  metadata: message.metadata,
});

const configOf = ({ id, url, token, authentication }) => ({
  id,
  url,
  token,
  authentication: authentication && {
    schemes: [authentication.scheme],
    credentials: authentication.credentials,
  },
});

const paramsOf = ({ message, history, push, metadata }) => ({
  message: messageOf(message),
  configuration: { historyLength: history, pushNotificationConfig: push && configOf(push) },
  metadata,
});

// From the SDK's types

function part(part) {
  if (part.kind === 'text') return { text: part.text };
  if (part.kind === 'data') return { data: part.data };
  const { bytes, uri, name, mimeType } = part.file;
  return slim({ bytes, url: uri, name, type: mimeType });
}

const message = (message) =>
  slim({
    id: message.messageId,
    role: message.role,
    parts: message.parts.map(part),
    task: message.taskId,
    context: message.contextId,
    references: message.referenceTaskIds,
    metadata: message.metadata,
  });

const status = (status) =>
  slim({ state: status.state, message: status.message && message(status.message), timestamp: status.timestamp });

const artifact = (artifact) => ({ id: artifact.artifactId, parts: artifact.parts.map(part) });

function thing(thing) {
  switch (thing.kind) {
    case 'task':
      return {
        kind: 'task',
        id: thing.id,
        context: thing.contextId,
        status: status(thing.status),
        artifacts: (thing.artifacts ?? []).map(artifact),
        history: (thing.history ?? []).map(message),
        metadata: thing.metadata ?? {},
      };
    case 'status-update':
      return {
        kind: 'status',
        task: thing.taskId,
        context: thing.contextId,
        status: status(thing.status),
        final: thing.final,
      };
    case 'artifact-update':
      return {
        kind: 'artifact',
        task: thing.taskId,
        context: thing.contextId,
        artifact: artifact(thing.artifact),
        append: thing.append ?? false,
        last: thing.lastChunk ?? false,
      };
    case 'message':
      return { kind: 'message', ...message(thing) };
    default:
      return { kind: String(thing.kind) };
  }
}

const push = ({ taskId, pushNotificationConfig: { id, url, token } }) => slim({ task: taskId, id, url, token });

async function* told(answers) {
  for await (const answer of answers) yield thing(answer);
}

const calls = {
  async card(client) {
    const card = await client.getAgentCard();
    return {
      transport: client.transport.constructor.name,
      name: card.name,
      description: card.description,
      version: card.protocolVersion,
      streaming: card.capabilities.streaming ?? false,
      push: card.capabilities.pushNotifications ?? false,
      extended: card.supportsAuthenticatedExtendedCard ?? false,
      skills: card.skills.map((skill) => skill.id),
    };
  },
  /** What the card says of credentials. */
  security({ agentCard: { securitySchemes = {}, security = [] } }) {
    const read = ({ type, scheme, in: place, name }) => slim({ type, scheme, in: place, header: name });
    return {
      schemes: Object.fromEntries(Object.entries(securitySchemes).map(([name, scheme]) => [name, read(scheme)])),
      'any of': security.map(Object.keys),
    };
  },
  send: async (client, args) => thing(await client.sendMessage(paramsOf(args))),
  stream: (client, args, signal) => told(client.sendMessageStream(paramsOf(args), { signal })),
  get: async (client, { id, history }) => thing(await client.getTask({ id, historyLength: history })),
  cancel: async (client, { id }) => thing(await client.cancelTask({ id })),
  subscribe: (client, { id }, signal) => told(client.resubscribeTask({ id }, { signal })),
  push_create: async (client, args) =>
    push(
      await client.setTaskPushNotificationConfig({
        taskId: args.task,
        pushNotificationConfig: configOf(args.push),
      }),
    ),
  push_get: async (client, { task, id }) =>
    push(await client.getTaskPushNotificationConfig({ id: task, pushNotificationConfigId: id })),
  push_list: async (client, { task }) => (await client.listTaskPushNotificationConfig({ id: task })).map(push),
  push_delete: (client, { task, id }) =>
    client.deleteTaskPushNotificationConfig({ id: task, pushNotificationConfigId: id }),
};

const codes = [
  [sdk.TaskNotFoundError, -32001],
  [sdk.TaskNotCancelableError, -32002],
  [sdk.PushNotificationNotSupportedError, -32003],
  [sdk.UnsupportedOperationError, -32004],
  [sdk.ContentTypeNotSupportedError, -32005],
  [sdk.InvalidAgentResponseError, -32006],
  [sdk.AuthenticatedExtendedCardNotConfiguredError, -32007],
];

function refusal(error) {
  // An error inside of a stream is the cause of the error that is thrown.
  const told = error.cause ?? error;
  return slim({ code: codes.find(([kind]) => told instanceof kind)?.[1] ?? told.errorResponse?.error?.code });
}

await serve(connect, calls, refusal);
