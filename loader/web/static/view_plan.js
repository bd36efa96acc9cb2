// The card of the images: the archive, its images and the disk space that they need.

import { byId, fillRow, setShown, setText, showRows, showTrouble } from "./dom.js";
import { bytes, guess, moment } from "./units.js";

const ENGINE_SILENT =
  "The Docker engine does not respond, so it is not known which images it already has. Start it, or check DOCKER_HOST.";
// Without an archive a plan fails with these: the images are not there, or the engine does not tell.
const WITHOUT_ARCHIVE = ["ARCHIVE_NOT_FOUND", "ENGINE_UNAVAILABLE"];

/** Return whether an unlock would change something, as far as the page knows. `plan`: the answer, null without one. */
export function hasWork(plan) {
  return plan !== null && plan.engine_answers && !plan.done;
}

/** Return whether there is anything to unlock. */
export function canUnlock({ answer, problem }) {
  return answer !== null || !WITHOUT_ARCHIVE.includes(problem?.code);
}

/** Show a plan, or the problem of the response. */
export function showPlan(plan, problem) {
  setShown(byId("plan"), plan !== null);
  setShown(byId("plan-note"), plan === null || !plan.engine_answers);
  setText(byId("plan-note"), plan === null ? sentence(problem) : ENGINE_SILENT);
  if (plan === null) {
    return;
  }
  setText(byId("archive"), plan.archive);
  setText(byId("version"), plan.release?.version ?? "no archive");
  setText(byId("made"), plan.release === null ? "" : moment(plan.release.created));
  setText(byId("to-send"), toSend(plan));
  showFailure(plan.failure);
  setShown(byId("warnings"), plan.warnings.length > 0);
  showRows(byId("warnings"), "line", plan.warnings, setText);
  showRows(byId("images"), "row", plan.images, fillImage);
  setShown(byId("room"), !plan.done && plan.places.length > 0);
  showRows(byId("places"), "row", plan.places, fillPlace);
}

/** Say why an unlock would fail before its login. */
function showFailure(failure) {
  if (failure === null) {
    showTrouble(byId("plan-failure"));
  } else {
    showTrouble(byId("plan-failure"), `An unlock would fail. ${failure.detail}`, failure.hint, failure.code);
  }
}

function sentence(problem) {
  const hint = problem.code === "ARCHIVE_NOT_FOUND" ? "Copy images.enc there; this page will notice." : problem.hint;
  return `${problem.message} ${hint}`;
}

function toSend({ done, older_than: newest, engine_answers: known, images, work, seconds }) {
  if (done) {
    return "nothing";
  }
  if (newest !== null) {
    return "nothing, because the release is older";
  }
  const missing = images.filter((image) => !image.present).length;
  const share = missing < images.length ? `, ${missing} of ${images.length} images` : "";
  const time = seconds === null ? "" : `, in ${guess(seconds)}`;
  return `${known ? "" : "at most "}${bytes(work.to_send)}${share}${time}`;
}

function fillImage(row, image) {
  // An image may have no time at which it was made.
  const made = Number.isNaN(Date.parse(image.created)) ? "" : `made ${moment(image.created)} `;
  fillRow(row, {
    name: image.reference,
    ...presence(image),
    detail: `${made}for ${image.platform} · ${amount(image)}`,
  });
}

function amount({ size, to_send: sent, update }) {
  return update ? `${bytes(sent)} of ${bytes(size)} to send` : bytes(size);
}

function presence({ present, update }) {
  if (present === null) {
    return { tag: "unknown", tone: "quiet" };
  }
  if (update) {
    return { tag: "an update", tone: "quiet" };
  }
  return present ? { tag: "in the engine", tone: "good" } : { tag: "not loaded yet", tone: "quiet" };
}

function fillPlace(row, place) {
  const well = place.writable && place.fits;
  const full = place.takes_files ? "too little room" : "out of inodes";
  const trouble = place.writable ? full : "read-only";
  fillRow(row, {
    name: place.paths.join(" and "),
    tag: well ? "fits" : trouble,
    tone: well ? "good" : "bad",
    detail: `needs ${bytes(place.needed)}, ${bytes(place.free)} free`,
  });
}
