// The card of the next release: starts, shows and cancels a fetch. The loader fetches on without this page.

import { post } from "./api.js";
import { announce, byId, setShown, setText, showTrouble } from "./dom.js";
import { showRefusal } from "./refusal.js";
import { bytes, duration, guess, rate } from "./units.js";
import { hasWork } from "./view_plan.js";

const STEPS = {
  checking: "Comparing what is here with the release.",
  downloading: "Downloading what this device lacks.",
  installing: "Putting the release in its place.",
};
const LOGIN = "Log in to fetch a release from the resource API.";
const NOTHING = "No release was fetched since the loader was started.";
const ENDED = "The last fetch ended early. What has come stays for the next one.";
// After this time without a byte the page tells what is going on.
const SILENT_SECONDS = 5;
const LOST = {
  error: "The loader was restarted during the fetch.",
  hint: "Log in and start the fetch again; what has come stays.",
  code: "INTERRUPTED",
};

// The response that is shown, and the failure of a fetch that a restart of the loader has ended and forgotten.
let shown = null;
let lost = null;
let sending = false;

/** Return whether a fetch runs. */
export function isFetching(fetch) {
  return fetch.state in STEPS;
}

/** Connect form and button. Calls `changed()` after the loader has accepted a start or a cancel. */
export function setUpFetch(changed) {
  byId("fetch-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const version = byId("fetch-version").value.trim();
    send("images/fetch", version === "" ? {} : { version }, changed);
  });
  byId("fetch-cancel").addEventListener("click", () => send("images/fetch/cancel", {}, changed));
}

async function send(path, document, changed) {
  if (sending) {
    return;
  }
  sending = true;
  showTrouble(byId("fetch-refusal"));
  try {
    await post(path, document);
    changed();
  } catch (error) {
    showRefusal(byId("fetch-refusal"), error);
  } finally {
    sending = false;
  }
}

/** Show the response to GET /images/fetch, with the plan (null if there is none) and whether somebody is logged in. */
export function showFetch(fetch, plan, authenticated) {
  const hadFocus = byId("fetch-actions").contains(document.activeElement);
  lost = fetch.state === "idle" ? (lost ?? lostBy(shown)) : null;
  const words = describe(fetch, plan, authenticated);
  setText(byId("fetch-note"), words.note);
  setShown(byId("fetch-ready"), words.ready !== "");
  setText(byId("fetch-ready"), words.ready);
  showRun(fetch);
  setShown(byId("fetch-form"), authenticated && !isFetching(fetch));
  setShown(byId("fetch-cancel"), isFetching(fetch));
  const failure = lost ?? fetch;
  const failed = lost !== null || fetch.state === "error";
  showTrouble(byId("fetch-failure"), ...(failed ? [failure.error, failure.hint, failure.code] : []));
  if (hadFocus && document.activeElement.closest("[hidden]") !== null) {
    byId("fetch-title").focus();
  }
  if (shown !== null && fetch.state !== shown.state) {
    announce(failed ? `The fetch failed. ${failure.error} ${failure.hint}` : words.ready || words.note);
  }
  shown = fetch;
}

function lostBy(former) {
  if (former !== null && isFetching(former)) {
    return LOST;
  }
  // The loader may have said that it stops before it went away.
  return former?.code === LOST.code ? former : null;
}

function describe(fetch, plan, authenticated) {
  if (isFetching(fetch)) {
    return { note: `${title(fetch)}: ${STEPS[fetch.state]}`, ready: "" };
  }
  // The archive may have been replaced since, and the plan is of what lies there now.
  if (fetch.state === "fetched" && hasWork(plan) && plan.release.serial === fetch.release.serial) {
    return { note: "", ready: `${title(fetch)} lies ready to be unlocked.` };
  }
  if (fetch.state === "fetched") {
    return { note: `${title(fetch)} is on this device.`, ready: "" };
  }
  if (!authenticated) {
    return { note: LOGIN, ready: "" };
  }
  return { note: lost !== null || fetch.state === "error" ? ENDED : NOTHING, ready: "" };
}

function title({ version, release }) {
  return release === null ? `Release ${version}` : `Release ${release.version} (serial ${release.serial})`;
}

function showRun(fetch) {
  setShown(byId("fetch-run"), isFetching(fetch));
  if (!isFetching(fetch)) {
    return;
  }
  byId("fetch-bar").max = Math.max(1, fetch.bytes_total);
  byId("fetch-bar").value = fetch.bytes_done;
  setText(byId("fetch-percent"), String(fetch.percent));
  setText(byId("fetch-amount"), `${bytes(fetch.bytes_done)} of ${bytes(fetch.bytes_total)}`);
  setText(byId("fetch-rate"), rate(fetch.rate));
  setText(byId("fetch-eta"), guess(fetch.eta_seconds));
  const silent = fetch.activity !== null && fetch.silent_seconds >= SILENT_SECONDS;
  byId("fetch-bar").dataset.silent = silent;
  setShown(byId("fetch-activity"), silent);
  setText(byId("fetch-activity"), silent ? `No byte for ${duration(fetch.silent_seconds)}: ${fetch.activity}.` : "");
}
