// The card of what happened last: login, unlock and fetch, also before a restart of the loader.

import { byId, fillRow, setShown, setText, showRows } from "./dom.js";
import { moment } from "./units.js";

const NAMES = { login: "Login", unlock: "Unlock", fetch: "Fetch" };

/** Show the response to GET /status, null if there is none. */
export function showLast(status) {
  const known = Object.keys(NAMES).filter((event) => (status?.last[event] ?? null) !== null);
  setText(byId("last-note"), known.length === 0 ? "Nothing is known of what happened earlier." : "");
  setShown(byId("last-note"), known.length === 0);
  showRows(byId("last"), "row", known, (row, event) => fillEvent(row, NAMES[event], status.last[event]));
}

function fillEvent(row, name, { at, outcome, code, reason, hint, user, client, version }) {
  const origin = client === null ? "" : `from ${client}`;
  const release = version === null ? "" : `release ${version}`;
  const why = code === null ? "" : `${reason ?? ""} ${hint} (${code})`;
  fillRow(row, {
    name,
    tag: outcome,
    tone: code === null ? "good" : "bad",
    detail: [moment(at), user, origin, release, why].filter(Boolean).join(" · "),
  });
}
