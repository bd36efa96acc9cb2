// The card of the models: whether they can be loaded, what the cache holds, which downloads run.

import { byId, fillRow, setShown, setText, showRows } from "./dom.js";
import { bytes, guess, rate } from "./units.js";

/** Show the response to GET /status, or its problem. */
export function showCache(status, problem) {
  setShown(byId("cache"), status !== null);
  setText(byId("cache-note"), status === null ? `${problem.message} ${problem.hint}` : login(status.authenticated));
  if (status !== null) {
    showHeld(status);
  }
}

function login(authenticated) {
  return authenticated
    ? "Somebody is logged in: services here can load models."
    : "Nobody is logged in: services here cannot load models. A lock and a restart of the loader end a login.";
}

function showHeld({ modelCacheDir, cache, api }) {
  const parts = cache.entries === 1 ? "part" : "parts";
  setText(byId("cache-held"), cache.entries === 0 ? "nothing" : `${cache.entries} ${parts}, ${bytes(cache.bytes)}`);
  setText(byId("cache-dir"), modelCacheDir);
  setShown(byId("downloads-part"), cache.downloads.length > 0);
  showRows(byId("downloads"), "download-row", cache.downloads, (row, download) => fillDownload(row, download, api));
}

function fillDownload(row, download, api) {
  const { filename, bytes_done: done, bytes_total: total } = download;
  const speed = download.rate
    ? `${rate(download.rate)} · ${guess((total - done) / download.rate)} left`
    : `waiting for the resource API at ${api}`;
  fillRow(row, {
    name: filename,
    tag: `${Math.floor((100 * done) / Math.max(1, total))} %`,
    tone: "busy",
    detail: `${bytes(done)} of ${bytes(total)} · ${speed}`,
  });
  const bar = row.querySelector("progress");
  bar.setAttribute("aria-label", `Download of ${filename}`);
  bar.max = Math.max(1, total);
  bar.value = done;
}
