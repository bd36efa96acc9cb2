// Changes the document only where a value has changed, so that screen readers, selections and animations go on.

/** Return the element with this id, which must exist. */
export function byId(id) {
  return document.getElementById(id);
}

/** Set the content of `element` to `text`, always as text and never as markup. */
export function setText(element, text) {
  if (element.textContent !== text) {
    element.textContent = text;
  }
}

/** Show or hide. */
export function setShown(element, shown) {
  if (element.hidden === shown) {
    element.hidden = !shown;
  }
}

/** Call `fill` with a row of the list for each item. Rows come from the template with this id and are reused. */
export function showRows(list, templateId, items, fill) {
  while (list.children.length > items.length) {
    list.lastElementChild.remove();
  }
  items.forEach((item, index) => {
    if (index === list.children.length) {
      list.append(byId(templateId).content.cloneNode(true));
    }
    fill(list.children[index], item);
  });
}

/** Fill name, tag and detail of a row. `tone` colours the tag: good, bad, busy or quiet. */
export function fillRow(row, { name, tag, tone, detail }) {
  setText(row.querySelector(".name"), name);
  setText(row.querySelector(".tag"), tag);
  row.querySelector(".tag").dataset.tone = tone;
  setText(row.querySelector(".detail"), detail);
}

/** Fill a box with a sentence, what to do and a code; no sentence hides it. */
export function showTrouble(box, what = "", hint = "", code = "") {
  setText(box.querySelector(".what"), what);
  setText(box.querySelector(".hint"), hint);
  setText(box.querySelector(".code"), code);
  setShown(box, what !== "");
}

/** Let a screen reader say `text` once; nothing is visible. */
export function announce(text) {
  setText(byId("announcer"), text);
}
