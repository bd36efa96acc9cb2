// The lock: one button, seen while somebody is logged in and no run lives, which it would end.

import { post, Problem } from "./api.js";
import { announce, byId, setShown, showTrouble } from "./dom.js";

/** Let the button work. `locked()` is called when the loader has forgotten the login. */
export function setUpLock(locked) {
  byId("lock").addEventListener("click", async () => {
    try {
      await post("lock", {});
    } catch (error) {
      refuse(error);
      return;
    }
    showTrouble(byId("lock-refusal"));
    announce("Locked.");
    locked();
  });
}

/** Show or hide it. */
export function showLock(shown) {
  setShown(byId("locking"), shown);
}

function refuse(error) {
  const known = error instanceof Problem;
  const what = known ? error.message : "The loader does not answer.";
  showTrouble(byId("lock-refusal"), what, "The loader is not locked.", known ? error.code : "");
  announce(`${what} The loader is not locked.`);
}
