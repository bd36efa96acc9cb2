// The models at the resource API by name, and which of them are on this device.

import { getOrProblem } from "./api.js";
import { byId, fillRow, showRows } from "./dom.js";
import { Listing } from "./listing.js";
import { bytes, moment } from "./units.js";

const NONE = "The resource API has no models.";

let models = [];
// The names of the models whose big part is here, and those that have none.
let held = new Set();
let small = new Set();
// What GET /status said of the cache when `held` was asked for.
let heldAt = "";

const listing = new Listing("models", "models", async (answer) => {
  models = answer?.models ?? [];
  if (models.length > 0) {
    held = await wholeParts();
    small = new Set(models.filter((model) => model.cached && !held.has(path(model))).map(path));
  }
  heldAt = "";
  showModels({});
  return answer === null || models.length > 0 ? "" : NONE;
});

/** Follow the response to GET /status. What has changed in the cache is asked of the loader, not of the API. */
export async function followModels(status) {
  listing.follow(status);
  const { entries, bytes: size, downloads } = status.cache;
  const now = `${entries} ${size}`;
  if (models.length > 0 && now !== heldAt) {
    held = await wholeParts();
    heldAt = now;
  }
  showModels(Object.fromEntries(downloads.map((download) => [download.filename, download])));
}

/** Return the names of the models whose big part is here; those that were known if the cache cannot be read. */
async function wholeParts() {
  const { answer } = await getOrProblem("cache");
  return answer === null ? held : new Set(answer.entries.filter((entry) => entry.whole).map((entry) => entry.name));
}

function path({ folder, filename }) {
  return folder === "" ? filename : `${folder}/${filename}`;
}

function showModels(downloads) {
  showRows(byId("models-rows"), "row", models, (row, model) => {
    const size = model.size === null ? "" : bytes(model.size);
    const made = model.created === null ? "" : `made ${moment(model.created)}`;
    const refused = model.code === null ? "" : `A load is refused: ${model.code}. ${model.hint}`;
    const detail = [size, made, refused].filter(Boolean).join(" · ");
    fillRow(row, { name: path(model), ...presence(model, downloads[path(model)]), detail });
  });
}

function presence(model, download) {
  if (model.code !== null) {
    return { tag: "refused", tone: "bad" };
  }
  if (download !== undefined) {
    const percent = Math.floor((100 * download.bytes_done) / Math.max(1, download.bytes_total));
    return { tag: `downloading, ${percent} %`, tone: "busy" };
  }
  const cached = held.has(path(model)) || small.has(path(model));
  return cached ? { tag: "cached", tone: "good" } : { tag: "not cached", tone: "quiet" };
}
