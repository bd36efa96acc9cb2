// A list that comes from the resource API. The page asks for it when a person opens it or logs in, and never by itself,
// because the answer costs the device traffic.

import { getSlowly } from "./api.js";
import { byId, setShown, setText, showTrouble } from "./dom.js";
import { showRefusal } from "./refusal.js";

const LOGIN = "Log in to see them.";

/** The `details` with the id `id`, and within it `id`-note, `id`-refusal and `id`-rows. */
export class Listing {
  /** `show` gets the answer, null if there is none, and returns a sentence, empty if the rows say all. */
  constructor(id, path, show) {
    this.id = id;
    this.path = path;
    this.show = show;
    this.authenticated = false;
    this.api = "";
    this.asking = false;
    this.note(LOGIN);
    byId(id).addEventListener("toggle", () => this.ask());
  }

  /** Take over whether somebody is logged in, and the host of the resource API. */
  follow({ authenticated, api }) {
    this.api = api;
    if (authenticated === this.authenticated) {
      return;
    }
    this.authenticated = authenticated;
    this.show(null);
    showTrouble(byId(`${this.id}-refusal`));
    this.note(authenticated ? "" : LOGIN);
    this.ask();
  }

  async ask() {
    if (this.asking || !this.authenticated || !byId(this.id).open) {
      return;
    }
    this.asking = true;
    showTrouble(byId(`${this.id}-refusal`));
    this.note(`Waiting for the resource API at ${this.api}.`);
    try {
      const answer = await getSlowly(this.path);
      this.note(this.authenticated ? await this.show(answer) : LOGIN);
    } catch (error) {
      this.show(null);
      this.note("");
      showRefusal(byId(`${this.id}-refusal`), error);
    } finally {
      this.asking = false;
    }
  }

  note(text) {
    setText(byId(`${this.id}-note`), text);
    setShown(byId(`${this.id}-note`), text !== "");
  }
}
