// What the page says of the unlock in one sentence: badge, title and lead.

import { moment } from "./units.js";
import { canUnlock, hasWork } from "./view_plan.js";

const FIRST = "Log in with your account of the resource API.";
const MISSING = "The archive holds images that the engine does not have. Unlock again to load them.";
const GONE = "The engine has lost images, and there is no archive to load them from. Fetch a release, or copy images.enc.";
const PROVEN = "Proven: a key fragment has authenticated on this device that they are the right ones.";
const NOT_PROVEN = "Not proven: no key fragment has authenticated on this device that they are the right ones.";

/** Return `badge`, `tone`, `title` and `lead`. `plan` has `answer` and `problem`; `lost`: a restart ended the unlock. */
export function describe({ run, plan, authenticated, isRunning, lost }) {
  if (isRunning) {
    return { badge: "unlocking", tone: "busy", title: "Unlocking", lead: "It continues even if this page is closed." };
  }
  if (lost || run.code === "INTERRUPTED") {
    return { badge: "interrupted", tone: "bad", title: "The unlock was interrupted", lead: "" };
  }
  if (run.state === "error") {
    return { badge: "failed", tone: "bad", title: "The unlock failed", lead: "" };
  }
  return run.state === "ready" ? describeReady(run, plan, authenticated) : describeIdle(plan, authenticated);
}

function describeReady(run, { answer, problem }, authenticated) {
  const since = run.started_at === null ? "" : ` since ${moment(run.updated_at)}`;
  if (problem?.code === "ARCHIVE_NOT_FOUND") {
    return { badge: "images missing", tone: "busy", title: "Images are missing", lead: GONE };
  }
  if (answer === null || !answer.engine_answers) {
    const lead = `The images were all in the engine${since}. Whether they still are is not known: see Images.`;
    return { badge: "not known", tone: "busy", title: "The images were ready", lead };
  }
  if (hasWork(answer)) {
    return { badge: "images missing", tone: "busy", title: "Images are missing", lead: MISSING };
  }
  const lead = `All images are in the engine${since}. ${run.proven ? PROVEN : NOT_PROVEN} ${loginLead(authenticated)}`;
  return { badge: "ready", tone: "good", title: "Images are ready", lead };
}

function describeIdle(plan, authenticated) {
  if (!canUnlock(plan)) {
    const isEngine = plan.problem.code === "ENGINE_UNAVAILABLE";
    const title = isEngine ? "The Docker engine does not respond" : "No archive on this device";
    return { badge: "idle", tone: "quiet", title, lead: modelsLead(authenticated) };
  }
  if (plan.answer?.done) {
    return { badge: "idle", tone: "quiet", title: "All images are here", lead: loginLead(authenticated) };
  }
  return { badge: plan.answer === null ? "idle" : "locked", tone: "quiet", title: "Unlock this device", lead: FIRST };
}

function loginLead(authenticated) {
  return authenticated ? "Logged in." : "Not logged in: log in, so that services here can load models.";
}

function modelsLead(authenticated) {
  return authenticated
    ? "Logged in: services here can load models. A fetched release brings images."
    : "Not logged in: log in, so that services here can load models and a release can be fetched.";
}
