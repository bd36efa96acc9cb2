// The buttons that need no input: cancel the unlock, and lock. Each is shown while it can be used.

import { post } from "./api.js";
import { announce, byId, setShown, showTrouble } from "./dom.js";
import { showRefusal } from "./refusal.js";

/** Connect the button `id`, which sends POST `path`. `said` is for screen readers, `failed` says what a failure means. */
export function setUpButton(id, { path, said, failed, done }) {
  const refusal = byId(`${id}-refusal`);
  byId(id).addEventListener("click", async () => {
    showTrouble(refusal);
    try {
      await post(path, {});
    } catch (error) {
      showRefusal(refusal, error, failed);
      return;
    }
    announce(said);
    done();
  });
}

/** Show or hide the part of the button `id`. The focus must not stay on a hidden one. */
export function showButton(id, shown) {
  const hadFocus = document.activeElement === byId(id);
  setShown(byId(`${id}-part`), shown);
  if (hadFocus && !shown) {
    byId("title").focus();
  }
}
