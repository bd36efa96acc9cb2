// The releases: those that were proven on this device, the one in the archive, and those that the resource API has.

import { byId, fillRow, setShown, setText, showRows } from "./dom.js";
import { Listing } from "./listing.js";
import { moment } from "./units.js";

const NONE = "No release is known on this device.";
const NOT_PUBLISHED = "The resource API has no releases.";
const ALIAS = "latest";

let published = [];
let known = { present: null, previous: null };
let archive = null;

const listing = new Listing("published", "images/published", (answer) => {
  published = answer?.versions ?? [];
  showPublished();
  return answer === null || published.length > 0 ? "" : NOT_PUBLISHED;
});

/** Show the response to GET /images/releases with the plan, null if there is none. `status`: that to GET /status. */
export function showReleases(releases, plan, status) {
  known = releases;
  archive = plan?.release ?? null;
  const rows = [present(plan), waiting(), previous()].filter((row) => row !== null);
  setShown(byId("releases-note"), rows.length === 0);
  setText(byId("releases-note"), rows.length === 0 ? NONE : "");
  showRows(byId("releases"), "row", rows, fillRow);
  if (status !== null) {
    listing.follow(status);
  }
  showPublished();
}

function present(plan) {
  const release = known.present;
  if (release === null) {
    return null;
  }
  if (archive?.head !== release.head || !plan.engine_answers) {
    return row(release, "proven", "quiet", "unlocked last");
  }
  return plan.done
    ? row(release, "proven", "good", "unlocked last, its images are in the engine")
    : row(release, "proven", "quiet", "unlocked last, images of it are missing");
}

function waiting() {
  if (archive === null || archive.head === known.present?.head) {
    return null;
  }
  return row(archive, "not proven", "quiet", "in the archive");
}

function previous() {
  const release = known.previous;
  return release && row(release, "proven", "quiet", "the one before; back to it: azaion-loader images back");
}

function row({ version, serial, created }, tag, tone, place) {
  return { name: `${version} (serial ${serial})`, tag, tone, detail: `${place} · made ${moment(created)}` };
}

function showPublished() {
  showRows(byId("published-rows"), "row", published, (line, version) => {
    fillRow(line, { name: version, ...standing(version), detail: version === ALIAS ? "the newest, by another name" : "" });
  });
}

function standing(version) {
  if ([known.present?.version, known.previous?.version].includes(version)) {
    return { tag: "proven here", tone: "good" };
  }
  return { tag: version === archive?.version ? "in the archive" : "available", tone: "quiet" };
}
