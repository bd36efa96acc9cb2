// Shows why something that a person has started was refused.

import { Problem } from "./api.js";
import { announce, showTrouble } from "./dom.js";

/** Show `error` in `box`, and let a screen reader say it. The sentence `lead` stands before the hint. */
export function showRefusal(box, error, lead = "") {
  const known = error instanceof Problem;
  const what = known ? error.message : "The loader does not respond.";
  const hint = [lead, known ? error.hint : "Try again when it does."].filter(Boolean).join(" ");
  showTrouble(box, what, hint, known ? error.code : "");
  announce(`${what} ${hint}`);
}
