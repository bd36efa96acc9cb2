// Connects the parts: polls the loader and shows its responses.

import { isFormSeen, setUpAccess, showAccess } from "./access.js";
import { get, getOrProblem, Problem, Unreachable } from "./api.js";
import { setUpButton, showButton } from "./button.js";
import { announce, byId, setShown } from "./dom.js";
import { keepAsking } from "./polling.js";
import { showCache } from "./view_cache.js";
import { showDevice } from "./view_device.js";
import { isFetching, setUpFetch, showFetch } from "./view_fetch.js";
import { showLast } from "./view_last.js";
import { followModels } from "./view_models.js";
import { canUnlock, hasWork, showPlan } from "./view_plan.js";
import { showReleases } from "./view_releases.js";
import { isRunning, showBadge, showUnlock } from "./view_unlock.js";

// Ask for the plan less often, because the loader opens the archive and asks the engine for it.
const PLAN_LASTS_MS = 30_000;

let plan = { answer: null, problem: null, releases: null, madeAt: -Infinity, madeFor: null };

async function ask() {
  try {
    const [run, status, fetch] = await Promise.all([get("unlock/status"), getOrProblem("status"), get("images/fetch")]);
    await renewPlan(`${run.state} ${fetch.state}`);
    show(run, status, fetch);
    if (status.answer !== null) {
      await followModels(status.answer);
    }
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
    const [made, releases] = await Promise.all([getOrProblem("unlock/plan"), get("images/releases")]);
    // A loader that is busy makes a plan soon, and until then the former one is better than none.
    const kept = made.problem?.code === "BUSY" && plan.releases !== null;
    plan = kept ? plan : { ...made, releases, madeAt: performance.now(), madeFor: states };
  }
}

function show(run, status, fetch) {
  const { authenticated } = run;
  const nothingToUnlock = run.state === "ready" || (plan.answer?.done ?? false);
  const upToDate = nothingToUnlock && !hasWork(plan.answer) && run.state !== "error";
  const wasInForm = byId("form").contains(document.activeElement);
  showUnreachable(false);
  if (status.answer !== null) {
    showDevice(status.answer);
  }
  const isNew = showUnlock(run, plan, authenticated);
  showPlan(plan.answer, plan.problem);
  showFetch(fetch, plan.answer, authenticated);
  showReleases(plan.releases, plan.answer, status.answer);
  showCache(status.answer, status.problem);
  showLast(status.answer);
  showButton("cancel", isRunning(run));
  // A lock would end the unlock, too.
  showButton("lock", authenticated && !isRunning(run));
  showAccess({
    shown: !isRunning(run),
    isNeeded: !(upToDate && authenticated),
    main: upToDate || !canUnlock(plan) ? "login" : "unlock",
    hasUnlock: canUnlock(plan),
    status: status.answer,
  });
  setShown(byId("starting"), false);
  setShown(byId("content"), true);
  showTitle(run, status.answer?.device);
  if (wasInForm && !isFormSeen()) {
    byId("title").focus();
  } else if (isNew && run.code === "LOGIN_REJECTED" && document.activeElement === byId("title")) {
    byId("password").focus();
  }
}

function showTitle(run, device) {
  const percent = isRunning(run) ? ` ${run.percent} %` : "";
  const names = [byId("badge").textContent + percent, device, "Azaion Loader"];
  document.title = names.filter(Boolean).join(" – ");
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
setUpButton("cancel", {
  path: "unlock/cancel",
  said: "The unlock stops.",
  failed: "The unlock goes on.",
  done: askNow,
});
setUpButton("lock", {
  path: "lock",
  said: "Locked.",
  failed: "The loader is not locked.",
  done: () => {
    byId("title").focus();
    askNow();
  },
});
