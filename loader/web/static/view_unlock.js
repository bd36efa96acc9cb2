// The state of the unlock: badge, headline, steps, bar, figures, failure.

import { announce, byId, setShown, setText, showTrouble } from "./dom.js";
import { duration, guess, rate } from "./units.js";
import { describe } from "./unlock_words.js";

const LOADING = "loading_images";
// After this time without a byte the page tells what is going on.
const SILENT_SECONDS = 5;
const LOST = {
  error: "The loader was restarted during the unlock.",
  hint: "Start the unlock again.",
  code: "INTERRUPTED",
};

// The state that is shown, and the failure of a run that a restart of the loader has ended and forgotten.
let shown = null;
let lost = null;

/** Return whether an unlock runs. */
export function isRunning(run) {
  return !["idle", "ready", "error"].includes(run.state);
}

/**
 * Show the response to GET /unlock/status, with `answer` and `problem` of the plan, and whether somebody is logged in.
 * Return whether the state is new.
 */
export function showUnlock(run, plan, authenticated) {
  lost = run.state === "idle" ? (lost ?? lostBy(shown)) : null;
  const words = describe({ run, plan, authenticated, isRunning: isRunning(run), lost: lost !== null });
  setText(byId("title"), words.title);
  setText(byId("lead"), words.lead);
  showBadge(words.badge, words.tone);
  showRun(run);
  showSteps(run, words.tone);
  showFailure(run);
  const isNew = shown !== null && run.state !== shown.state;
  if (isNew || (isRunning(run) && run.step.name !== shown?.step?.name)) {
    tell(run, words.title);
  }
  shown = run;
  return isNew;
}

function lostBy(former) {
  if (former !== null && isRunning(former)) {
    return LOST;
  }
  // The loader may have said that it stops before it went away.
  return former?.code === LOST.code ? former : null;
}

/** Set the word beside the name of the page. `tone`: good, bad, busy or quiet. */
export function showBadge(text, tone) {
  setText(byId("badge"), text);
  byId("badge").dataset.tone = tone;
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

/** While engine or API are silent, the bar shimmers and a sentence says what is known, because no byte is counted. */
function showActivity(run) {
  const silent = run.activity !== null && run.silent_seconds >= SILENT_SECONDS;
  byId("bar").dataset.silent = silent;
  setShown(byId("activity"), silent);
  setText(byId("activity"), silent ? `${run.activity} No news for ${duration(run.silent_seconds)}.` : "");
}

function showSteps(run, tone) {
  // Hide the steps of a run that found everything in place, because its only step says nothing, and those of a run
  // whose images are not all there any more, because they would look as if all was well.
  const loaded = run.state === "ready" && tone === "good" && LOADING in (run.duration_seconds ?? {});
  const told = isRunning(run) || run.state === "error" || loaded;
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
  if (run.state === "error" || lost !== null) {
    const { error, hint, code } = lost ?? run;
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
  } else if (run.state === "error" || lost !== null) {
    const { error, hint } = lost ?? run;
    announce(`${title}. ${error} ${hint}`);
  } else {
    announce(title);
  }
}
