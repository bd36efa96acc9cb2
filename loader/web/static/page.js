// Connects the parts: polls the loader and shows its responses.

import { isFormSeen, setUpAccess, showAccess } from "./access.js";
import { get, getOrProblem, Problem, Unreachable } from "./api.js";
import { announce, byId, setShown } from "./dom.js";
import { setUpLock, showLock } from "./lock.js";
import { keepAsking } from "./polling.js";
import { showCache } from "./view_cache.js";
import { isFetching, setUpFetch, showFetch } from "./view_fetch.js";
import { showLast } from "./view_last.js";
import { showPlan } from "./view_plan.js";
import { hasWork, isRunning, showBadge, showUnlock } from "./view_unlock.js";

// Ask for the plan less often, because the loader opens the archive and asks the engine for it.
const PLAN_LASTS_MS = 30_000;

let plan = { answer: null, problem: null, madeAt: -Infinity, madeFor: null };

async function ask() {
  try {
    const [run, status, fetch] = await Promise.all([get("unlock/status"), getOrProblem("status"), get("images/fetch")]);
    await renewPlan(`${run.state} ${fetch.state}`);
    show(run, status, fetch);
    const moving = isRunning(run) || isFetching(fetch) || status.answer?.cache.downloads.length > 0;
    return moving ? "moving" : "resting";
  } catch (error) {
    if (!(error instanceof Unreachable || error instanceof Problem)) {
      throw error;
    }
    showUnreachable(true);
    return "unreachable";
  }
}

/** `states`: those of unlock and fetch, after each of which the plan may be another one. */
async function renewPlan(states) {
  const old = performance.now() - plan.madeAt > PLAN_LASTS_MS;
  if (old || states !== plan.madeFor) {
    plan = { ...(await getOrProblem("unlock/plan")), madeAt: performance.now(), madeFor: states };
  }
}

function show(run, status, fetch) {
  const authenticated = status.answer?.authenticated ?? false;
  const nothingToUnlock = run.state === "ready" || (plan.answer?.done ?? false);
  const upToDate = nothingToUnlock && !hasWork(plan.answer) && run.state !== "error";
  const wasInForm = byId("form").contains(document.activeElement);
  showUnreachable(false);
  const isNew = showUnlock(run, plan.answer, authenticated);
  showPlan(plan.answer, plan.problem);
  showFetch(fetch, plan.answer, authenticated);
  showCache(status.answer, status.problem);
  showLast(status.answer);
  showLock(authenticated && !isRunning(run));
  showAccess({
    shown: !isRunning(run),
    isNeeded: !(upToDate && authenticated),
    main: upToDate ? "login" : "unlock",
  });
  setShown(byId("starting"), false);
  setShown(byId("content"), true);
  document.title = `${byId("badge").textContent}${isRunning(run) ? ` ${run.percent} %` : ""} – Azaion Loader`;
  if (wasInForm && !isFormSeen()) {
    byId("title").focus();
  } else if (isNew && run.code === "LOGIN_REJECTED" && document.activeElement === byId("title")) {
    byId("password").focus();
  }
}

function showUnreachable(is) {
  if (byId("unreachable").hidden !== is) {
    return;
  }
  setShown(byId("unreachable"), is);
  byId("content").classList.toggle("stale", is);
  announce(is ? "The loader does not respond." : "The loader responds again.");
  if (is) {
    showBadge("no answer", "bad");
    document.title = "no answer – Azaion Loader";
  }
}

const askNow = keepAsking(ask);
setUpAccess((action) => {
  if (action === "unlock") {
    byId("title").focus();
  }
  askNow();
});
setUpFetch(askNow);
setUpLock(() => {
  byId("title").focus();
  askNow();
});
