// The form. It sends e-mail and password to the loader once, and nothing keeps the password.

import { post } from "./api.js";
import { announce, byId, setShown, setText, showTrouble } from "./dom.js";
import { showRefusal } from "./refusal.js";

const PATHS = { unlock: "unlock", login: "login" };

// After this time without a response the page says what it waits for.
const SILENT_MS = 1_000;

let sending = false;
let needed = null;
let authenticated = false;
let api = "";

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

/**
 * `shown`: no unlock runs. `isNeeded`: the form is open; otherwise a line opens it. `main`: what Enter does.
 * `hasUnlock`: there is something to unlock. `status`: the response to GET /status, null if there is none.
 */
export function showAccess({ shown, isNeeded, main, hasUnlock, status }) {
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
  setShown(byId("unlock"), hasUnlock);
  setText(byId("access-more"), hasUnlock ? "Log in or unlock once more" : "Log in once more");
  setText(byId("login"), main === "login" ? "Log in" : "Log in only");
  showLogin(status);
}

/** Say why a login has ended, and no longer that it has succeeded. */
function showLogin(status) {
  const refused = status?.refused ?? null;
  const ended = refused === null ? [] : [`The login has ended. ${refused.detail}`, refused.hint, refused.code];
  showTrouble(byId("ended"), ...ended);
  if (authenticated && !status?.authenticated) {
    setShown(byId("done"), false);
  }
  authenticated = status?.authenticated ?? false;
  api = status?.api ?? "";
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
  const silent = setTimeout(() => showWaiting(action), SILENT_MS);
  try {
    await post(PATHS[action], credentials);
    succeed(action);
    accepted(action);
  } catch (error) {
    showRefusal(byId("refusal"), error);
    byId("password").focus();
  } finally {
    clearTimeout(silent);
    setShown(byId("waiting"), false);
    sending = false;
    byId("form").removeAttribute("aria-busy");
  }
}

function showWaiting(action) {
  const text = action === "login" ? `Waiting for the resource API at ${api}.` : "Waiting for the loader and its engine.";
  setText(byId("waiting"), text);
  setShown(byId("waiting"), true);
  announce(text);
}

function succeed(action) {
  setShown(byId("done"), action === "login");
  setText(byId("done"), "Logged in.");
  if (action === "login") {
    announce("Logged in.");
  }
}
