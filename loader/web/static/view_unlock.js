// The state of the unlock: badge, headline, steps, bar, figures, failure.

import { announce, byId, setShown, setText, showTrouble } from "./dom.js";
import { duration, guess, moment, rate } from "./units.js";

const LOADING = "loading_images";
// After this time without a byte the page tells what is going on.
const SILENT_SECONDS = 5;
const FIRST = "Log in with your account of the resource API.";
const MISSING = "The archive holds images that the engine does not have. Unlock again to load them.";
const PROVEN = "Proven: a key fragment has authenticated on this device that they are the right ones.";
const NOT_PROVEN = "Not proven: no key fragment has authenticated on this device that they are the right ones.";
const LOST = {
  error: "The loader was restarted during the unlock.",
  hint: "Start the unlock again.",
  code: "INTERRUPTED",
};

// The state that is shown, and whether the loader restarted during a run and lost it.
let shown = null;
let lost = false;

/** Return whether an unlock runs. */
export function isRunning(run) {
  return !["idle", "ready", "error"].includes(run.state);
}

/** Return whether an unlock would change something, as far as the page knows. */
export function hasWork(plan) {
  return plan !== null && plan.engine_answers && !plan.done;
}

/**
 * Show the response to GET /unlock/status, with the plan (null if there is none) and whether somebody is logged in.
 * Return whether the state is new.
 */
export function showUnlock(run, plan, authenticated) {
  lost = run.state === "idle" && (lost || (shown !== null && (isRunning(shown) || shown.code === LOST.code)));
  const words = describe(run, plan, authenticated);
  setText(byId("title"), words.title);
  setText(byId("lead"), words.lead);
  showBadge(words.badge, words.tone);
  showRun(run);
  showSteps(run);
  showFailure(run);
  const isNew = shown !== null && run.state !== shown.state;
  if (isNew || (isRunning(run) && run.step.name !== shown?.step?.name)) {
    tell(run, words.title);
  }
  shown = run;
  return isNew;
}

/** Set the word beside the name of the page. `tone`: good, bad, busy or quiet. */
export function showBadge(text, tone) {
  setText(byId("badge"), text);
  byId("badge").dataset.tone = tone;
}

function describe(run, plan, authenticated) {
  if (isRunning(run)) {
    return { badge: "unlocking", tone: "busy", title: "Unlocking", lead: "It continues even if this page is closed." };
  }
  if (run.state === "error" || lost) {
    return { badge: "failed", tone: "bad", title: "The unlock failed", lead: "" };
  }
  if (run.state === "ready" && hasWork(plan)) {
    return { badge: "images missing", tone: "busy", title: "Images are missing", lead: MISSING };
  }
  if (run.state === "ready") {
    return { badge: "ready", tone: "good", title: "Images are ready", lead: readyLead(run, authenticated) };
  }
  return plan !== null && plan.done
    ? { badge: "idle", tone: "quiet", title: "All images are here", lead: loginLead(authenticated) }
    : { badge: plan === null ? "idle" : "locked", tone: "quiet", title: "Unlock this device", lead: FIRST };
}

function readyLead(run, authenticated) {
  const when = run.started_at === null ? "" : ` since ${moment(run.updated_at)}`;
  return `All images are in the engine${when}. ${run.proven ? PROVEN : NOT_PROVEN} ${loginLead(authenticated)}`;
}

function loginLead(authenticated) {
  return authenticated ? "Logged in." : "Not logged in: log in, so that services here can load models.";
}

function showRun(run) {
  setShown(byId("run"), isRunning(run));
  if (!isRunning(run)) {
    return;
  }
  byId("bar").max = Math.max(1, run.bytes_total);
  byId("bar").value = run.bytes_done;
  setText(byId("percent"), String(run.percent));
  setText(byId("rate"), rate(run.rate));
  setText(byId("eta"), guess(run.eta_seconds));
  showActivity(run);
}

/** While the engine is silent, the bar shimmers and a sentence says what is known, because no byte is counted. */
function showActivity(run) {
  const silent = run.activity !== null && run.silent_seconds >= SILENT_SECONDS;
  byId("bar").dataset.silent = silent;
  setShown(byId("activity"), silent);
  setText(byId("activity"), silent ? `${run.activity} No news for ${duration(run.silent_seconds)}.` : "");
}

function showSteps(run) {
  // Hide the steps of a run that found everything in place, because its only step says nothing.
  const told = isRunning(run) || run.state === "error" || LOADING in (run.duration_seconds ?? {});
  setShown(byId("steps"), told && run.step !== null);
  if (run.step === null) {
    return;
  }
  [...byId("steps").children].forEach((item, index) => {
    const status = stepStatus(run, index + 1);
    const took = run.duration_seconds[item.dataset.step];
    item.dataset.status = status;
    item.setAttribute("aria-current", status === "now" ? "step" : "false");
    setText(item.querySelector(".took"), status === "done" && took !== undefined ? duration(took) : "");
    setText(item.querySelector(".visually-hidden"), `, ${status}`);
  });
}

function stepStatus(run, number) {
  if (number < run.step.number || run.state === "ready") {
    return "done";
  }
  if (number > run.step.number) {
    return "to do";
  }
  return run.state === "error" ? "failed" : "now";
}

function showFailure(run) {
  if (run.state === "error" || lost) {
    const { error, hint, code } = lost ? LOST : run;
    showTrouble(byId("failure"), error, hint, code);
  } else {
    showTrouble(byId("failure"));
  }
}

/** Announce only a new state or step, because a screen reader can read the bar at any time. */
function tell(run, title) {
  if (isRunning(run)) {
    const { number, of } = run.step;
    const name = byId("steps").children[number - 1].firstElementChild.textContent;
    announce(`Step ${number} of ${of}: ${name}`);
  } else if (run.state === "error" || lost) {
    const { error, hint } = lost ? LOST : run;
    announce(`${title}. ${error} ${hint}`);
  } else {
    announce(title);
  }
}
