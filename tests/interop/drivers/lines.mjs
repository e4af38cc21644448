// What both JavaScript drivers share; the same lines as in lines.py.
import { createInterface } from 'node:readline';

export const out = (line) => process.stdout.write(JSON.stringify(line) + '\n');

/** `fetch` that tells what went over the wire, byte for byte, and leaves it as it was. */
export async function witness(url, init = {}) {
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
