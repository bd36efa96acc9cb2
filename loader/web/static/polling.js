// The polling: often while work runs, rarely otherwise, more rarely while the page is hidden or the loader is silent.

const MOVING_MS = 1_000;
const RESTING_MS = 5_000;
const HIDDEN_MOVING_MS = 10_000;
const HIDDEN_RESTING_MS = 60_000;
const FIRST_RETRY_MS = 1_000;
const LAST_RETRY_MS = 15_000;

/**
 * Call `ask` forever, one call at a time; `ask` returns "moving", "resting" or "unreachable".
 * Return a function that calls it at once.
 */
export function keepAsking(ask) {
  let timer;
  let asking = false;
  let wanted = false;
  let failures = 0;

  async function turn() {
    clearTimeout(timer);
    if (asking) {
      wanted = true;
      return;
    }
    asking = true;
    let found = "unreachable";
    try {
      found = await ask();
    } finally {
      asking = false;
      failures = found === "unreachable" ? failures + 1 : 0;
      timer = setTimeout(turn, wanted ? 0 : pauseAfter(found, failures));
      wanted = false;
    }
  }

  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) {
      turn();
    }
  });
  turn();
  return turn;
}

function pauseAfter(found, failures) {
  if (found === "moving") {
    return document.hidden ? HIDDEN_MOVING_MS : MOVING_MS;
  }
  if (document.hidden) {
    return HIDDEN_RESTING_MS;
  }
  return found === "resting" ? RESTING_MS : Math.min(LAST_RETRY_MS, FIRST_RETRY_MS * 2 ** (failures - 1));
}
