// The form. It sends e-mail and password to the loader once, and nothing keeps the password.

import { post, Problem } from "./api.js";
import { announce, byId, setShown, setText, showTrouble } from "./dom.js";

const NO_ANSWER = "The loader does not respond.";
const PATHS = { unlock: "unlock", login: "login" };

let sending = false;
let needed = null;

/** Connect the form. Calls `accepted(action)` after the loader has accepted an "unlock" or a "login". */
export function setUpAccess(accepted) {
  byId("form").addEventListener("submit", (event) => {
    event.preventDefault();
    send(mainAction(), accepted);
  });
  for (const action of Object.keys(PATHS)) {
    byId(action).addEventListener("click", () => {
      if (action !== mainAction() && byId("form").reportValidity()) {
        send(action, accepted);
      }
    });
  }
  // Clear the form, because the browser may keep the page for its back button, and the typed text with it.
  window.addEventListener("pagehide", () => {
    byId("password").value = "";
  });
}

/** `shown`: no unlock runs. `isNeeded`: the form is open; otherwise a line opens it. `main`: what Enter does. */
export function showAccess({ shown, isNeeded, main }) {
  setShown(byId("access"), shown);
  byId("access").dataset.needed = String(isNeeded);
  if (isNeeded !== needed) {
    byId("access").open = isNeeded;
    needed = isNeeded;
  }
  for (const action of Object.keys(PATHS)) {
    byId(action).type = action === main ? "submit" : "button";
    byId(action).className = action === main ? "main" : "";
  }
  setText(byId("login"), main === "login" ? "Log in" : "Log in only");
}

/** Return whether the form can be used now. */
export function isFormSeen() {
  return !byId("access").hidden && byId("access").open;
}

function mainAction() {
  return Object.keys(PATHS).find((action) => byId(action).type === "submit");
}

async function send(action, accepted) {
  if (sending) {
    return;
  }
  sending = true;
  byId("form").setAttribute("aria-busy", "true");
  showTrouble(byId("refusal"));
  setShown(byId("done"), false);
  const credentials = { email: byId("email").value, password: byId("password").value };
  byId("password").value = "";
  try {
    await post(PATHS[action], credentials);
    succeed(action);
    accepted(action);
  } catch (error) {
    refuse(error);
  } finally {
    sending = false;
    byId("form").removeAttribute("aria-busy");
  }
}

function succeed(action) {
  setShown(byId("done"), action === "login");
  setText(byId("done"), "Logged in.");
  if (action === "login") {
    announce("Logged in.");
  }
}

function refuse(error) {
  const known = error instanceof Problem;
  const what = known ? error.message : NO_ANSWER;
  const hint = known ? error.hint : "Try again when it does.";
  showTrouble(byId("refusal"), what, hint, known ? error.code : "");
  announce(`${what} ${hint}`);
  byId("password").focus();
}
