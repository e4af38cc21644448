// @a2a-js/sdk 1.3.0, driven by lines of JSON.
import { createPublicKey } from 'node:crypto';
import { pathToFileURL } from 'node:url';
import { fetcher, handler, serve, slim } from './lines.mjs';

const load = (path) => import(pathToFileURL(`${process.argv[2]}/a2a-sdk-10/dist/${path}`));
const { AgentCard, Role, verifyAgentCardSignature, taskStateFromJSON, taskStateToJSON, roleToJSON } = await load('index.js');
const sdk = await load('client/index.js');

/** The key that a signature names, from where it says. */
const verifier = verifyAgentCardSignature(async (kid, jku) => {
  const { keys } = await (await fetch(jku)).json();
  return createPublicKey({ format: 'jwk', key: keys.find((key) => key.kid === kid) });
});

async function connect({ url, binding, polling = false, extended = false, verify = false, old = false, ...credentials }) {
  let client;
  const known = handler(credentials, () => (client ? calls.security(client) : { schemes: {} }));
  const fetchImpl = sdk.createAuthenticatingFetchWithRetry(fetcher(credentials), known);
  const legacyCompat = { enabled: old };
  const options = sdk.ClientFactoryOptions.createFrom(sdk.ClientFactoryOptions.default, {
    transports: [sdk.JsonRpcTransportFactory, sdk.RestTransportFactory].map(
      (Transport) => new Transport({ fetchImpl, legacyCompat }),
    ),
    preferredTransports: [binding],
    clientConfig: { polling },
    cardResolver: new sdk.DefaultAgentCardResolver({ fetchImpl, legacyCompat }),
  });
  client = await new sdk.ClientFactory(options).createFromUrl(url);
  // What a caller would have whose card promises more than the agent keeps.
  if (verify) await client.getAgentCard(undefined, verifier);
  if (extended) client.agentCard.capabilities.extendedAgentCard = true;
  return client;
}

// To the SDK's types

function contentOf(part) {
  if ('text' in part) return { $case: 'text', value: part.text };
  if ('data' in part) return { $case: 'data', value: part.data };
  if ('bytes' in part) return { $case: 'raw', value: Buffer.from(part.bytes, 'base64') };
  return { $case: 'url', value: part.url };
}

const partOf = (part) => ({
  content: contentOf(part),
  metadata: undefined,
  filename: part.name ?? '',
  mediaType: part.type ?? '',
});

const messageOf = (message) => ({
  messageId: message.id,
  role: Role.ROLE_USER,
  parts: message.parts.map(partOf),
  taskId: message.task ?? '',
  contextId: message.context ?? '',
  referenceTaskIds: message.references ?? [],
  extensions: [],
  metadata: message.metadata,
});

const configOf = ({ id = '', url, token = '', authentication }, taskId = '') => ({
  tenant: '',
  taskId,
  id,
  url,
  token,
  authentication,
});

const paramsOf = ({ message, history, push, metadata, tenant = '' }) => ({
  tenant,
  message: messageOf(message),
  configuration: { historyLength: history, taskPushNotificationConfig: push && configOf(push) },
  metadata,
});

// From the SDK's types

function part({ content, filename, mediaType }) {
  switch (content?.$case) {
    case 'text':
      return { text: content.value };
    case 'data':
      return { data: content.value };
    case 'raw':
      return slim({ bytes: content.value.toString('base64'), name: filename, type: mediaType });
    case 'url':
      return slim({ url: content.value, name: filename, type: mediaType });
    default:
      return { nothing: true };
  }
}

const message = (message) =>
  slim({
    id: message.messageId,
    role: roleToJSON(message.role).replace('ROLE_', '').toLowerCase(),
    parts: message.parts.map(part),
    task: message.taskId,
    context: message.contextId,
    references: message.referenceTaskIds,
    metadata: message.metadata,
  });

const status = (status) =>
  slim({
    state: taskStateToJSON(status.state).replace('TASK_STATE_', '').toLowerCase().replaceAll('_', '-'),
    message: status.message && message(status.message),
    timestamp: status.timestamp,
  });

const artifact = (artifact) => ({ id: artifact.artifactId, parts: artifact.parts.map(part) });

const task = (task) => ({
  kind: 'task',
  id: task.id,
  context: task.contextId,
  status: status(task.status),
  artifacts: task.artifacts.map(artifact),
  history: task.history.map(message),
  metadata: task.metadata ?? {},
});

const result = (value) => ('messageId' in value ? { kind: 'message', ...message(value) } : task(value));

function event({ payload }) {
  const value = payload?.value;
  switch (payload?.$case) {
    case 'task':
    case 'message':
      return result(value);
    case 'statusUpdate':
      return { kind: 'status', task: value.taskId, context: value.contextId, status: status(value.status) };
    case 'artifactUpdate':
      return {
        kind: 'artifact',
        task: value.taskId,
        context: value.contextId,
        artifact: artifact(value.artifact),
        append: value.append,
        last: value.lastChunk,
      };
    default:
      return { kind: String(payload?.$case) };
  }
}

const push = ({ taskId, id, url, token }) => slim({ task: taskId, id, url, token });

async function* told(answers) {
  for await (const answer of answers) yield event(answer);
}

const calls = {
  async card(client) {
    const card = await client.getAgentCard();
    return {
      transport: client.transport.constructor.name,
      name: card.name,
      description: card.description,
      version: card.supportedInterfaces[0].protocolVersion,
      streaming: card.capabilities.streaming ?? false,
      push: card.capabilities.pushNotifications ?? false,
      extended: card.capabilities.extendedAgentCard ?? false,
      skills: card.skills.map((skill) => skill.id),
    };
  },
  /** What the card says of credentials. */
  security({ agentCard }) {
    const kinds = { httpAuthSecurityScheme: 'http', apiKeySecurityScheme: 'apiKey', mtlsSecurityScheme: 'mutualTLS' };
    const read = ({ scheme: { $case: kind, value } }) =>
      slim({ type: kinds[kind], scheme: value.scheme, in: value.location, header: value.name });
    // What has members of 0.3 as well, the SDK hands out as it came.
    const isRead = Object.values(agentCard.securitySchemes ?? {}).some(({ scheme }) => scheme?.$case);
    const { securitySchemes, securityRequirements } = isRead ? agentCard : AgentCard.fromJSON(agentCard);
    return {
      schemes: Object.fromEntries(Object.entries(securitySchemes).map(([name, scheme]) => [name, read(scheme)])),
      'any of': securityRequirements.map(({ schemes }) => Object.keys(schemes)),
    };
  },
  send: async (client, args) => result(await client.sendMessage(paramsOf(args))),
  stream: (client, args, signal) => told(client.sendMessageStream(paramsOf(args), { signal })),
  get: async (client, { id, history }) => task(await client.getTask({ tenant: '', id, historyLength: history })),
  cancel: async (client, { id }) => task(await client.cancelTask({ tenant: '', id, metadata: undefined })),
  subscribe: (client, { id }, signal) => told(client.resubscribeTask({ tenant: '', id }, { signal })),
  async list(client, { status, ...args }) {
    const wanted = status && taskStateFromJSON(`TASK_STATE_${status.toUpperCase().replaceAll('-', '_')}`);
    const got = await client.listTasks({ tenant: '', contextId: '', pageToken: '', status: wanted ?? 0, ...args });
    return { tasks: got.tasks.map(task), next: got.nextPageToken, size: got.pageSize, total: got.totalSize };
  },
  push_create: async (client, args) =>
    push(await client.createTaskPushNotificationConfig(configOf(args.push, args.task))),
  push_get: async (client, { task, id }) =>
    push(await client.getTaskPushNotificationConfig({ tenant: '', taskId: task, id })),
  push_list: async (client, { task }) =>
    (
      await client.listTaskPushNotificationConfig({ tenant: '', taskId: task, pageSize: 0, pageToken: '' })
    ).configs.map(push),
  push_delete: (client, { task, id }) =>
    client.deleteTaskPushNotificationConfig({ tenant: '', taskId: task, id }),
};

const codes = {
  TaskNotFoundError: -32001,
  TaskNotCancelableError: -32002,
  PushNotificationNotSupportedError: -32003,
  UnsupportedOperationError: -32004,
  ContentTypeNotSupportedError: -32005,
  InvalidAgentResponseError: -32006,
  ExtendedAgentCardNotConfiguredError: -32007,
  ExtensionSupportRequiredError: -32008,
  VersionNotSupportedError: -32009,
  RequestMalformedError: -32602,
};

await serve(connect, calls, (error) => slim({ class: error.name, code: codes[error.name] }));
