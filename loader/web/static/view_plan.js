// The card of the images: the archive, its images and the disk space that they need.

import { byId, fillRow, setShown, setText, showRows } from "./dom.js";
import { bytes, moment } from "./units.js";

const ENGINE_SILENT = "The Docker engine does not respond, so it is not known which images it already has.";

/** Show a plan, or the problem of the response. */
export function showPlan(plan, problem) {
  setShown(byId("plan"), plan !== null);
  setShown(byId("plan-note"), plan === null || !plan.engine_answers);
  setText(byId("plan-note"), plan === null ? sentence(problem) : ENGINE_SILENT);
  if (plan === null) {
    return;
  }
  setText(byId("archive"), plan.archive);
  setText(byId("made"), moment(plan.created));
  setText(byId("tar-size"), bytes(plan.tar_size));
  showRows(byId("images"), "row", plan.images, fillImage);
  setShown(byId("room"), !plan.done && plan.places.length > 0);
  showRows(byId("places"), "row", plan.places, fillPlace);
}

function sentence(problem) {
  const hint = problem.code === "ARCHIVE_NOT_FOUND" ? " Copy images.enc there; this page will notice." : "";
  return problem.message + hint;
}

function fillImage(row, image) {
  const size = image.size === null ? "" : ` · ${bytes(image.size)}`;
  fillRow(row, {
    name: image.reference,
    ...presence(image.present),
    detail: `made ${moment(image.created)}${size}`,
  });
}

function presence(present) {
  if (present === null) {
    return { tag: "unknown", tone: "quiet" };
  }
  return present ? { tag: "in the engine", tone: "good" } : { tag: "not loaded yet", tone: "quiet" };
}

function fillPlace(row, place) {
  const well = place.writable && place.fits;
  const trouble = place.writable ? "too little room" : "read-only";
  fillRow(row, {
    name: place.paths.join(" and "),
    tag: well ? "fits" : trouble,
    tone: well ? "good" : "bad",
    detail: `needs ${bytes(place.needed)}, ${bytes(place.free)} free`,
  });
}
