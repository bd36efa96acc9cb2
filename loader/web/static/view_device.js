// The header: which device this is, and which version its loader has.

import { byId, setShown, setText } from "./dom.js";

let version = null;

/** Show the response to GET /status. A loader of another version than before has another page, too. */
export function showDevice(status) {
  setText(byId("device"), `${status.device} · loader ${status.version}`);
  version ??= status.version;
  setShown(byId("renewed"), status.version !== version);
  setText(byId("renewed-version"), status.version);
}
