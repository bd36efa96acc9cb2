// The lock button. It is visible while somebody is logged in and no unlock runs, because a lock would end the unlock.

import { post, Problem } from "./api.js";
import { announce, byId, setShown, showTrouble } from "./dom.js";

/** Connect the button. Calls `locked()` after the loader has forgotten the login. */
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

/** Show or hide the button. */
export function showLock(shown) {
  setShown(byId("locking"), shown);
}

function refuse(error) {
  const known = error instanceof Problem;
  const what = known ? error.message : "The loader does not respond.";
  const hint = `The loader is not locked. ${known ? error.hint : "Try again when it does."}`;
  showTrouble(byId("lock-refusal"), what, hint, known ? error.code : "");
  announce(`${what} ${hint}`);
}
