// Returns what is wrong with the layout of a page, one sentence a fault. In text that is spaced
// wider, words may break: nothing is lost.
({ spaced = false }) => {
  const faults = [];
  const visible = (element) => element.checkVisibility({ visibilityProperty: true })
    && element.getClientRects().length > 0 && !element.closest(".xs-unseen, .xa-enter")
    && !onlyRead(element);
  const onlyRead = (element) => {  // by a screen reader
    const clipped = element.closest("thead, .xs-none");
    return clipped && getComputedStyle(clipped).clipPath !== "none";
  };
  const name = (element) => `${element.tagName.toLowerCase()}.${element.className} "${
    (element.getAttribute?.("aria-label") || element.textContent || element.name || "").trim().replace(/\s+/g, " ").slice(0, 40)}"`;
  const width = document.documentElement.clientWidth;
  const all = (selector) => [...document.querySelectorAll(selector)].filter(visible);

  if (document.documentElement.scrollWidth > width) {
    faults.push(`the page is ${document.documentElement.scrollWidth} px wide`);
  }

  // Controls: in the window, and nothing lies over them.
  for (const control of all(":is(.xs, .xs-side) :is(button, summary, select, input, a)")) {
    control.scrollIntoView({ block: "center", inline: "nearest" });
    const box = control.getClientRects()[0];
    if (box.left < -0.5 || box.right > width + 0.5) faults.push(`outside the window: ${name(control)}`);
    const hit = document.elementFromPoint(box.left + box.width / 2, box.top + box.height / 2);
    const same = hit && (control.contains(hit) || hit.contains(control));
    if (!same && !control.matches(":disabled")) faults.push(`covered: ${name(control)} by ${hit && name(hit)}`);
  }
  scrollTo(0, 0);

  const controls = all(".xs-bar :is(button, summary, select, input, a, time)");
  for (const [number, one] of controls.entries()) {
    for (const other of controls.slice(number + 1)) {
      const [a, b] = [one.getBoundingClientRect(), other.getBoundingClientRect()];
      const over = Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1
        && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 1;
      if (over && one.parentElement !== other.parentElement) faults.push(`${name(one)} overlaps ${name(other)}`);
    }
  }

  // Headings: none lies over the first row.
  for (const table of all(".xs-grid")) {
    const top = table.tBodies[0].getBoundingClientRect().top;
    for (const heading of table.tHead.querySelectorAll("th, td")) {
      const over = heading.getBoundingClientRect().bottom - top;
      if (!spaced && over > 1 && visible(heading)) faults.push(`${name(heading)} covers ${Math.round(over)} px of the first row`);
    }
  }

  // Text: nothing wider than its place, but for what ends with an ellipsis.
  const places = ".xs :is(td:not(.xs-c-check), th, dd, dt, p, h1, h2, li, .xs-button, .xs-chip, .xs-card)";
  for (const place of all(places)) {
    if (place.clientWidth && place.scrollWidth > place.clientWidth + 1) {
      faults.push(`cut off: ${name(place)} ${place.scrollWidth} > ${place.clientWidth}`);
    }
  }

  // Words: of 18 letters at most never broken, addresses after colons only, times never.
  const lines = (node, start, end) => {
    const range = document.createRange();
    range.setStart(node, start);
    range.setEnd(node, end);
    const boxes = [...range.getClientRects()].filter((box) => box.width > 0);
    return new Set(boxes.map((box) => Math.round(box.top / 4))).size;
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode;
    const parent = node.parentElement;
    if (!parent.closest(".xs, .xs-side") || parent.closest("script, option, textarea") || !visible(parent)) continue;
    for (const found of node.data.matchAll(/[^\s./:()_@-]+/g)) {
      const [word] = found;
      if (!spaced && word.length <= 18 && lines(node, found.index, found.index + word.length) > 1) {
        faults.push(`broken: "${word}" in ${name(parent)}`);
      }
    }
    if (!spaced && parent.closest("time") && lines(node, 0, node.length) > 1) faults.push(`broken time: ${node.data}`);
  }
  for (const row of all(".xs-list > tbody > tr.xs-user")) {
    const button = row.querySelector(".xs-split");
    const box = button?.getBoundingClientRect();
    if (box && !spaced && box.right > row.getBoundingClientRect().right + 0.5) faults.push(`beside its row: ${name(button)}`);
  }
  return [...new Set(faults)];
}
