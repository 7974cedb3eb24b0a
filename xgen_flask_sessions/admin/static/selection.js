// Selects users by their check boxes, and forces out all of them in one request. The bar for it is
// the last part of the page; once it was shown, it keeps its place, so that nothing else moves.
(() => {
  "use strict";
  const form = document.getElementById("xs-acts");
  const bar = document.getElementById("xs-selection");
  const list = form?.xsActs;
  if (!list || !bar) return;
  const STILL_MS = 400; // a button that has just appeared is not pressed
  const TOUCH_MS = 3500; // a second tap meets the bar, not the row under it

  const head = form.querySelector("[data-xs-all]");
  const all = head.querySelector("input");
  const [users, total, selecting, finished, act, reason, clear, again, close] = [
    "users", "total", "selecting", "finished", "act", "with-reason", "clear", "again", "close",
  ].map((name) => bar.querySelector(`[data-xs-${name}]`));
  const texts = bar.dataset;
  const boxes = () =>
    [...form.querySelectorAll(".xs-user input[name=users]")].filter((box) => !box.disabled);
  const chosen = () => boxes().filter((box) => box.checked);
  const rowOf = (box) => box.closest("tr");
  const sessionsOf = (box) =>
    rowOf(box).matches(".xs-gone") ? 0 : Number(box.dataset.xsSessions);
  const count = (number, one, many) =>
    number === 1 ? one : many.replace("{n}", number.toLocaleString(document.documentElement.lang || "en"));

  // The state: hidden, selecting, acting, finished, or leaving until the pointer has left.
  let state = "hidden";
  let since = 0;
  let timer = 0;
  const enter = (next, text = "", rest = "") => {
    if (state !== next) since = performance.now();
    state = next;
    clearTimeout(timer);
    if (next !== "hidden") bar.hidden = false;
    bar.classList.toggle("xs-away", next === "hidden");
    selecting.hidden = next !== "selecting" && next !== "acting";
    finished.hidden = next !== "finished";
    for (const button of selecting.children) {
      button.setAttribute("aria-disabled", String(next === "acting"));
    }
    if (users.textContent === text && total.textContent === rest) return;
    users.textContent = text;
    total.textContent = rest;
    if (text) list.say(`${text} ${rest}`); // a bar that was hidden until now is not announced
  };
  const isStill = (event) =>
    event.detail === 0 || performance.now() - since > STILL_MS;

  const markHead = () => {
    const [possible, found] = [boxes().length, chosen().length];
    all.checked = found > 0 && found === possible;
    all.indeterminate = found > 0 && found < possible;
    all.disabled = !possible;
    return found;
  };
  const update = () => {
    const number = markHead();
    if (state !== "hidden" && state !== "selecting") return;
    if (!number) return state === "selecting" ? enter("hidden") : undefined;
    const sessions = chosen().reduce((sum, box) => sum + sessionsOf(box), 0);
    enter("selecting", count(number, texts.one, texts.many), count(sessions, texts.session, texts.sessions));
  };
  const select = () => {
    if (state !== "acting") state = "hidden";
    update();
    if (state === "hidden" && !bar.hidden) enter("hidden");
  };

  // The bar stays under a pointer that has just pressed one of its buttons.
  const leave = (event, focus) => {
    if (event.detail === 0) enter("hidden");
    else {
      enter("leaving", texts.none);
      if (event.pointerType !== "mouse") timer = setTimeout(() => enter("hidden"), TOUCH_MS);
    }
    focus?.focus({ preventScroll: true });
  };
  bar.addEventListener("pointerleave", (event) => {
    if (state === "leaving" && event.pointerType === "mouse") enter("hidden");
  });

  // Check boxes --------------------------------------------------------------------------------

  let last = null;
  const choose = (box, isChecked) => {
    if (rowOf(box).matches(".xs-busy")) return;
    box.checked = isChecked;
  };
  form.addEventListener("click", (event) => {
    if (!event.target.matches(".xs-user input[name=users]")) return;
    const box = event.target;
    const found = boxes();
    if (event.shiftKey && last?.isConnected && found.includes(last)) {
      const [from, to] = [found.indexOf(last), found.indexOf(box)].sort((a, b) => a - b);
      for (const each of found.slice(from, to + 1)) choose(each, box.checked);
    }
    last = box;
    select();
  });
  all.addEventListener("click", () => {
    const isChecked = all.checked;
    for (const box of boxes()) choose(box, isChecked);
    select();
  });
  // Shift and a click would select the text between them.
  form.addEventListener("mousedown", (event) => {
    if (event.shiftKey && event.target.closest(".xs-check")) event.preventDefault();
  });
  // The bar is far away for the Tab key: Enter leads to it, and Escape back.
  form.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !event.target.matches("input[type=checkbox]")) return;
    event.preventDefault();
    last = event.target;
    if (["selecting", "acting", "finished"].includes(state)) bar.focus({ preventScroll: true });
  });
  bar.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !last?.isConnected) return;
    (last.disabled ? rowOf(last) : last).focus();
  });

  // The act ------------------------------------------------------------------------------------

  let why = "";
  let failed = []; // the rows that a second try may help
  const buttonOf = (row) => row.querySelector(".xs-split > .xs-force");
  const showResult = (row, result, fresh) => {
    if (!result) return null;
    const box = row.querySelector("[name=users]");
    if (result.status === "refused") {
      box.checked = false;
      list.complain(row, result.text, { isQuiet: true });
    } else if (result.retry) {
      const retry = () => list.forceOut(row, buttonOf(row), why);
      list.complain(row, result.text, { retry, isQuiet: true });
    } else if (fresh) {
      list.replaceRow(row, fresh);
      return fresh;
    } else {
      box.checked = false; // done, but the row could not be read
      if (buttonOf(row)) buttonOf(row).disabled = true;
      list.complain(row, result.text, { isQuiet: true, isCalm: true });
    }
    return null;
  };

  const forceOut = async (text, found = chosen().map(rowOf)) => {
    if (!found.length || state === "acting") return;
    if ("confirm" in texts) return form.requestSubmit(form.querySelector("[data-xs-preview]"));
    why = text;
    enter("acting", form.dataset.busy);
    const rows = found.filter((row) => !row.matches(".xs-busy"));
    for (const row of rows) if (buttonOf(row)) list.setBusy(row, buttonOf(row), true);
    const ids = rows.map((row) => ["users", row.dataset.xsUser]);
    const answer = await list.post(texts.several, [["act", "1"], ["reason", why], ...ids]);
    if (answer.status === "leaving") return;
    const fresh = new Map(list.rowsIn(answer.rows ?? "").map((row) => [row.dataset.xsUser, row]));
    const settled = [];
    for (const row of rows) {
      if (buttonOf(row)) list.setBusy(row, buttonOf(row), false);
      const id = row.dataset.xsUser;
      const shown = showResult(row, answer.users?.[id], fresh.get(id));
      if (shown) settled.push(shown);
    }
    const nobody = answer.status === "failed" ? form.dataset.nobody : texts.unknown;
    enter("finished", answer.message || nobody);
    failed = rows.filter((row) => (answer.users ? answer.users[row.dataset.xsUser] : answer)?.retry !== false);
    again.hidden = !failed.length;
    list.settle(...settled);
    last = settled[0]?.querySelector("[name=users]") ?? last;
    bar.focus({ preventScroll: true });
  };

  act.addEventListener("click", (event) => {
    if (state === "selecting" && isStill(event)) forceOut("");
  });
  reason?.addEventListener("click", (event) => {
    if (state === "selecting" && isStill(event)) list.ask(`· ${users.textContent}`, forceOut, true);
  });
  again.addEventListener("click", (event) => {
    if (state !== "finished" || !isStill(event)) return;
    forceOut(why, failed.filter((row) => row.isConnected && row.querySelector(":checked")));
  });
  clear.addEventListener("click", (event) => {
    if (state !== "selecting" || !isStill(event)) return;
    const [first] = chosen();
    for (const box of boxes()) box.checked = false;
    markHead();
    leave(event, first);
  });
  close.addEventListener("click", (event) => {
    if (chosen().length) {
      state = "selecting";
      update();
      since = performance.now();
      bar.focus({ preventScroll: true });
    } else {
      leave(event, last && rowOf(last));
    }
  });

  for (const each of form.querySelectorAll("[data-xs-without-script]")) each.hidden = true;
  head.hidden = false;
  for (const box of form.querySelectorAll(".xs-check input")) {
    box.setAttribute("aria-describedby", "xs-selection-keys");
  }
  document.addEventListener("xs-acted", update);
  // Another script keeps the numbers of sessions current, and ends rows.
  new MutationObserver(update).observe(form, {
    subtree: true, attributeFilter: ["data-xs-sessions", "class"],
  });
  addEventListener("pageshow", update); // the browser may have restored check marks
  update();
})();
