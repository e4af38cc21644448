// What both JavaScript drivers share; the same lines as in lines.py.
import { readFileSync } from 'node:fs';
import { Agent, request } from 'node:https';
import { createInterface } from 'node:readline';
import { Readable } from 'node:stream';

// The SDKs' own remarks must not get between the lines.
console.debug = console.log = console.error;

export const out = (line) => process.stdout.write(JSON.stringify(line) + '\n');

/**
 * A `fetch` that tells what goes over the wire. `header` is a token that goes with every request, and `cert` has the
 * paths of a certificate and its key, which go with every handshake. Whom it trusts is in NODE_EXTRA_CA_CERTS.
 */
export function fetcher({ header, cert }) {
  const inner = cert ? holder(...cert) : fetch;
  return (url, init = {}) => {
    const headers = new Headers(init.headers);
    if (header) headers.set('Authorization', `Bearer ${header}`);
    return witness(inner, url, { ...init, headers });
  };
}

/** What `fetch` would be if it could show a certificate. */
function holder(cert, key) {
  const agent = new Agent({ cert: readFileSync(cert), key: readFileSync(key), keepAlive: false });
  return (url, { method, headers, body, signal }) =>
    new Promise((resolve, reject) => {
      const sent = request(url, { agent, method, headers: Object.fromEntries(headers), signal }, (answer) => {
        const { statusCode: status, statusMessage: statusText, headers } = answer;
        resolve(new Response(Readable.toWeb(answer), { status, statusText, headers }));
      });
      sent.on('error', reject);
      sent.end(body);
    });
}

/**
 * What the SDKs want of who has tokens: they go out as the security schemes of the card say, of which `schemes` has the
 * tokens, or, where it is `challenged`, only once the agent has asked for one.
 */
export function handler({ schemes = {}, challenged }, security) {
  return {
    async headers() {
      const headers = {};
      for (const [name, { type, header }] of Object.entries(security().schemes)) {
        if (type === 'http' && name in schemes) headers.Authorization = `Bearer ${schemes[name]}`;
        if (type === 'apiKey' && name in schemes) headers[header] = schemes[name];
      }
      return headers;
    },
    async shouldRetryWithHeaders(_, response) {
      const asks = response.headers.get('www-authenticate') ?? '';
      if (challenged && response.status === 401 && /^bearer\b(?!.*error=)/i.test(asks))
        return { Authorization: `Bearer ${challenged}` };
    },
  };
}

/** `fetch` that leaves everything as it was, byte for byte. */
async function witness(fetch, url, init) {
  const response = await fetch(url, init);
  const headers = new Headers(init.headers);
  const type = response.headers.get('content-type') ?? '';
  const raw = {
    method: init.method ?? 'GET',
    url: String(url),
    version: headers.get('a2a-version') ?? '',
    request: init.body ?? '',
    status: response.status,
    type,
    shown: [...headers.keys()].filter((name) => name === 'authorization' || name.endsWith('-key')),
    challenge: response.headers.get('www-authenticate') ?? '',
  };
  const same = { status: response.status, statusText: response.statusText, headers: response.headers };
  if (!type.startsWith('text/event-stream')) {
    const body = await response.text();
    out({ raw: { ...raw, body } });
    return new Response(response.status === 204 ? null : body, same);
  }
  let body = '';
  const decoder = new TextDecoder();
  const reader = response.body.getReader();
  const tee = new ReadableStream({
    async pull(controller) {
      try {
        const { done, value } = await reader.read();
        if (done) {
          out({ raw: { ...raw, body } });
          controller.close();
        } else {
          body += decoder.decode(value, { stream: true });
          controller.enqueue(value);
        }
      } catch (error) {
        out({ raw: { ...raw, body } });
        controller.error(error);
      }
    },
    async cancel(reason) {
      out({ raw: { ...raw, body } });
      await reader.cancel(reason);
    },
  });
  return new Response(tee, same);
}

/** Without what is absent. */
export function slim(members) {
  const empty = (v) =>
    v === undefined || v === null || v === '' || (typeof v === 'object' && Object.keys(v).length === 0);
  return Object.fromEntries(Object.entries(members).filter(([, v]) => !empty(v)));
}

export async function serve(connect, calls, told) {
  const running = new Map();
  const answer = async ({ n, call, client, args }) => {
    const leave = new AbortController();
    running.set(n, leave);
    try {
      const result = calls[call](await connect(client), args ?? {}, leave.signal);
      if (typeof result[Symbol.asyncIterator] !== 'function') {
        out({ n, result: (await result) ?? null });
        return;
      }
      for await (const event of result) out({ n, event });
      out({ n, result: leave.signal.aborted ? 'left' : null });
    } catch (error) {
      if (leave.signal.aborted) out({ n, result: 'left' });
      else out({ n, error: { class: error.constructor.name, text: error.message, ...told(error) } });
    }
  };
  for await (const line of createInterface({ input: process.stdin })) {
    const command = JSON.parse(line);
    if ('leave' in command) running.get(command.leave).abort();
    else answer(command);
  }
}
