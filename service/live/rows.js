// A list of any length, of which only the rows in sight are elements of the page.
//
// All rows are of one height. The elements are used again for other rows as the list is scrolled, and stand in the order
// of the rows, for readers of screens. Keys move an active row; `aria-activedescendant` names it.

const BEYOND = 6; // rows above and below those in sight
const PRINTED = 1_000; // rows at most that come onto paper

// options: make() gives the element of a row, fill(element, row, index) writes a row into it, count() and at(index)
// give the rows, press(row, index) is called for a click or Enter, key(event, row, index) for other keys.
function rowList(box, { make, fill, count: length, at, press, key }) {
  const space = box.appendChild(el("div", { class: "rows-space", role: "presentation" }));
  const slots = [];
  const prefix = box.id;
  let height = 0;
  let first = 0;
  let active = -1;
  let whole = false; // on paper

  new ResizeObserver(() => ((height = 0), draw())).observe(box);
  matchMedia("print").addEventListener("change", (event) => ((whole = event.matches), (height = 0), draw()));
  box.addEventListener("scroll", draw, { passive: true });
  box.addEventListener("keydown", pressed);
  box.addEventListener("focus", () => active < 0 && length() && move(Math.min(first + BEYOND, length() - 1)));
  space.addEventListener("click", (event) => {
    const slot = event.target.closest(".row");
    const index = first + slots.indexOf(slot);
    if (!slot || index >= length()) return;
    active = index;
    press(at(index), index, event);
    draw();
  });

  function draw() {
    height ||= Number.parseFloat(getComputedStyle(box).getPropertyValue("--row")) || 34;
    const all = length();
    space.style.height = `${all * height}px`;
    const sight = whole ? PRINTED : Math.ceil(box.clientHeight / height) + 2 * BEYOND;
    first = Math.max(Math.min(Math.floor(box.scrollTop / height) - BEYOND, all - sight), 0);
    active = Math.min(active, all - 1);
    const wanted = Math.min(sight, all);
    while (slots.length < wanted) {
      const slot = make();
      slot.id = `${prefix}-${slots.length}`;
      slots.push(space.appendChild(slot));
    }
    while (slots.length > wanted) slots.pop().remove();
    slots.forEach((slot, place) => {
      const index = first + place;
      const shift = `translateY(${index * height}px)`;
      if (slot.style.transform !== shift) slot.style.transform = shift;
      mark(slot, "aria-rowindex", index + 2);
      slot.classList.toggle("active", index === active);
      fill(slot, at(index), index);
    });
    const named = active >= first && active < first + slots.length;
    mark(box, "aria-activedescendant", named ? slots[active - first].id : null);
    mark(box, "aria-rowcount", all + 1);
  }

  function move(index) {
    active = Math.max(Math.min(index, length() - 1), 0);
    const top = active * height;
    if (top < box.scrollTop) box.scrollTop = top;
    else if (top + height > box.scrollTop + box.clientHeight) box.scrollTop = top + height - box.clientHeight;
    draw();
  }

  function reveal(index) {
    const top = index * height;
    if (top < box.scrollTop || top + height > box.scrollTop + box.clientHeight) {
      box.scrollTop = top - (box.clientHeight - height) / 2;
    }
  }

  function pressed(event) {
    if (event.target !== box || event.ctrlKey || event.metaKey || event.altKey) return;
    const page = Math.max(Math.floor(box.clientHeight / height) - 1, 1);
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
    if (event.key in steps) move(active < 0 ? first : active + steps[event.key]);
    else if (active >= 0 && (event.key === "Enter" || event.key === " ")) press(at(active), active, event);
    else if (active < 0 || !key?.(event, at(active), active, move)) return;
    event.preventDefault();
  }

  return { draw, reveal, reset: () => ((active = -1), (box.scrollTop = 0), draw()) };
}
