// Changing the document only where something has changed, so that readers, selections and animations are left in peace.

/** The element with this id, which the page has. */
export function byId(id) {
  return document.getElementById(id);
}

/** Make `text` the content of `element`; as text, whatever it holds. */
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

/** `fill` one row of the list for each item. Rows are made from the template with this id, and used again. */
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

/** Say `text` through a screen reader, once; nothing is seen. */
export function announce(text) {
  setText(byId("announcer"), text);
}
