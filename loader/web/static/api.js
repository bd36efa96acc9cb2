// The loader's HTTP interface. Addresses are relative, so that the page works below a path prefix of a proxy, too.

const GET_PATIENCE_MS = 15_000;
// The loader itself waits for the resource API for up to a minute.
const POST_PATIENCE_MS = 90_000;

/** No loader answered: none runs, the way to it is broken, or a proxy answered in its place. */
export class Unreachable extends Error {}

/** The loader refused: problem details (RFC 9457). */
export class Problem extends Error {
  constructor(document) {
    super(document.detail);
    this.code = document.code;
  }
}

/** The JSON that GET `path` answers; throws Unreachable and Problem. */
export function get(path) {
  return ask(path, GET_PATIENCE_MS, {});
}

/** `{answer, problem}` of GET `path`, one of them null; throws Unreachable. */
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

/** The JSON that POST `path` answers to `document`; throws Unreachable and Problem. */
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
