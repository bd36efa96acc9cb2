// The loader's HTTP interface. Addresses are relative, so that the page also works under a path prefix of a proxy.

const GET_PATIENCE_MS = 15_000;
// The timeout is this long, because the loader itself waits up to a minute for the resource API.
const POST_PATIENCE_MS = 90_000;
// The loader asks the resource API once for each entry of such a list.
const LIST_PATIENCE_MS = 600_000;

/** No loader responded: none runs, the network is broken, or a proxy responded instead. */
export class Unreachable extends Error {}

/** The loader responded with problem details (RFC 9457). */
export class Problem extends Error {
  constructor(document) {
    super(document.detail);
    this.code = document.code;
    this.hint = document.hint ?? "";
  }
}

/** Return the JSON response to GET `path`. Throws Unreachable or Problem. */
export function get(path) {
  return ask(path, GET_PATIENCE_MS, {});
}

/** Return the JSON response to GET `path`, for which the loader asks the resource API. Throws Unreachable or Problem. */
export function getSlowly(path) {
  return ask(path, LIST_PATIENCE_MS, {});
}

/** Return `{answer, problem}` of GET `path`, one of them null. Throws Unreachable. */
export async function getOrProblem(path) {
  try {
    return { answer: await get(path), problem: null };
  } catch (error) {
    if (!(error instanceof Problem)) {
      throw error;
    }
    return { answer: null, problem: error };
  }
}

/** Send `document` by POST to `path` and return the JSON response. Throws Unreachable or Problem. */
export function post(path, document) {
  return ask(path, POST_PATIENCE_MS, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(document),
  });
}

async function ask(path, patience, options) {
  const { ok, document } = await exchange(path, { ...options, signal: AbortSignal.timeout(patience) });
  if (ok) {
    return document;
  }
  throw document.code ? new Problem(document) : new Unreachable();
}

async function exchange(path, options) {
  try {
    const response = await fetch(path, { cache: "no-store", redirect: "error", ...options });
    return { ok: response.ok, document: await response.json() };
  } catch {
    throw new Unreachable();
  }
}
