// Acts and expands in place. Without this script, the same forms and links load the page again.
(() => {
  "use strict";
  const form = document.getElementById("xs-acts");
  if (!form) return;
  const live = document.getElementById("xs-live");
  const texts = form.dataset;
  const ROW = ".xs-user";

  const say = (text) => {
    live.textContent = "";
    // A repeated text is announced again only if it was gone in between.
    setTimeout(() => { live.textContent = text; }, 50);
  };
  const make = (tag, className, text = "") => {
    const element = document.createElement(tag);
    element.className = className;
    element.textContent = text;
    return element;
  };
  const headers = { "X-Requested-With": "XMLHttpRequest" };
  const PATIENCE_MS = 30_000; // then it is not known whether the act was done

  // Moved rows -----------------------------------------------------------------
  // A button that has just come under the pointer is not pressed: its row has moved. The focus
  // of the keyboard moves with the row.

  const STILL_MS = 700;
  const MOVED_MS = 3000;
  let places = new Map();
  const movedAt = new Map();
  const keyOf = (row) => row.dataset.xsUser || row.dataset.xsSession;
  const look = () => {
    const now = performance.now();
    const found = new Map();
    for (const row of form.querySelectorAll("[data-xs-user],[data-xs-session]")) {
      if (!row.offsetParent) continue;
      const key = keyOf(row);
      const top = row.getBoundingClientRect().top + scrollY;
      found.set(key, top);
      if (places.size && Math.abs(top - (places.get(key) ?? -99)) > 2) movedAt.set(key, now);
    }
    places = found;
  };
  let byPointer = false;
  form.addEventListener("click", (event) => { byPointer = event.detail > 0; }, true);
  const hasMoved = (row) =>
    byPointer && performance.now() - (movedAt.get(keyOf(row)) ?? -Infinity) < STILL_MS;
  look();
  const sizes = new ResizeObserver(look);
  for (const each of [document.body, form]) sizes.observe(each);
  new MutationObserver(look).observe(form, { childList: true, subtree: true });

  // A table that is wider than its place scrolls within it. Otherwise nothing may be a scroll
  // container, or the heading row would not stick to the window.
  const table = form.querySelector(".xs-list");
  const fit = () => form.classList.toggle("xs-scroll", table.offsetWidth > form.clientWidth);
  const widths = new ResizeObserver(fit);
  for (const each of [form, table]) widths.observe(each);

  // Acts -----------------------------------------------------------------------

  const fields = (extra) => {
    const body = new URLSearchParams();
    for (const input of form.querySelectorAll(":scope > input[type=hidden]")) {
      if (input.name !== "kept") body.append(input.name, input.value);
    }
    for (const [name, value] of extra) body.append(name, value);
    return body;
  };

  const post = async (url, extra) => {
    try {
      const signal = AbortSignal.timeout(PATIENCE_MS);
      const response = await fetch(url, { method: "POST", headers, body: fields(extra), signal });
      const answer = await response.json().catch(() => ({}));
      if (answer.sign_in) {
        location.assign(answer.sign_in);
        return { status: "leaving" };
      }
      if (answer.status !== undefined && answer.message) return answer;
      // Refused before the act, or by something between here and the application.
      const certain = response.status < 500 || answer.code === "denylist_unavailable";
      return { status: certain ? "failed" : "unknown" };
    } catch {
      return { status: "unknown" };
    }
  };

  const sentence = (answer, nothing, unknown) =>
    answer.message || (answer.status === "failed" ? nothing : unknown);
  const isOver = (answer) => answer.status === "done" || answer.status === "stale";

  const rowsIn = (html) => {
    const template = document.createElement("template");
    template.innerHTML = html;
    return [...template.content.querySelectorAll(ROW)];
  };

  // Puts the row as it is now in the place of the one that is shown, with the same height.
  const replaceRow = (row, fresh) => {
    const count = fresh.querySelector("[data-xs-expand]");
    const before = row.querySelector("[data-xs-expand]");
    fresh.id = row.id;
    fresh.style.minHeight = `${row.getBoundingClientRect().height}px`;
    if (before) {
      count.dataset.xsDetail = before.dataset.xsDetail;
      count.href = before.href;
      prepare(count);
    }
    const focused = row.contains(document.activeElement) || document.activeElement === document.body;
    row.replaceWith(fresh);
    if (focused) fresh.focus({ preventScroll: true });
    return fresh;
  };

  const settle = (...rows) => {
    for (const row of rows) {
      const detail = document.getElementById(row.id.replace("user-", "sessions-"));
      for (const button of detail?.querySelectorAll("button") ?? []) button.disabled = true;
    }
    document.dispatchEvent(new CustomEvent("xs-acted"));
  };

  // Shows a text over the row's own cells, so that nothing on the page moves. It belongs to a cell
  // that the style sheet does not position: the box is as wide as the row, not as the cell.
  const cover = (row, className, text) => {
    row.querySelector(`:scope > td > .${className}`)?.remove();
    const box = make("div", className);
    box.append(make("span", "", text));
    (row.querySelector(":scope > .xs-c-login") ?? row.firstElementChild).append(box);
    return box;
  };

  const warnOfMove = (row) => {
    say(texts.moved);
    const box = cover(row, "xs-moved", texts.moved);
    box.setAttribute("aria-hidden", "true");
    setTimeout(() => box.remove(), MOVED_MS);
  };

  // Says in the row why it stays as it was: the act failed, or it is done and the new row could not be
  // read, which is calm. One of several rows is quiet: it takes no focus, and the
  // bar's sentence is the announced one. The second click or key press of two meets no button.
  const complain = (row, text, { retry, isQuiet = false, isCalm = false } = {}) => {
    const box = cover(row, "xs-trouble", text);
    const shown = performance.now();
    box.classList.toggle("xs-calm", isCalm);
    if (isCalm) say(text);
    else if (!isQuiet) box.firstChild.setAttribute("role", "alert");
    const again = make("button", "xs-button xs-force", texts.retry);
    const close = make("button", "xs-button", "✕");
    close.setAttribute("aria-label", texts.close);
    for (const button of [again, close]) {
      button.type = "button";
      button.addEventListener("click", () => {
        if (performance.now() - shown < STILL_MS) return;
        box.remove();
        row.focus({ preventScroll: true });
        if (button === again) retry();
      });
    }
    box.append(...(retry ? [again] : []), close);
    if (!isQuiet) (retry ? again : close).focus({ preventScroll: true });
  };

  const setBusy = (row, button, isBusy) => {
    row.classList.toggle("xs-busy", isBusy);
    if (isBusy) {
      button.dataset.xsLabel = button.textContent;
      button.setAttribute("aria-busy", "true");
      button.setAttribute("aria-disabled", "true");
      button.textContent = texts.busy;
    } else {
      button.removeAttribute("aria-busy");
      button.removeAttribute("aria-disabled");
      button.textContent = button.dataset.xsLabel;
    }
  };

  const forceOut = async (row, button, reason = "") => {
    if (button.getAttribute("aria-busy") === "true") return;
    setBusy(row, button, true);
    say(texts.busy);
    const answer = await post(form.action, [["user_id", row.dataset.xsUser], ["reason", reason]]);
    if (answer.status === "leaving") return;
    if (answer.row) {
      say(answer.message);
      const fresh = rowsIn(answer.row)[0];
      replaceRow(row, fresh);
      settle(fresh);
      return;
    }
    setBusy(row, button, false);
    if (isOver(answer)) {
      button.disabled = true;
      complain(row, answer.message, { isCalm: true });
      settle(row);
      return;
    }
    const unknown = texts.unknown.replace("{user}", () => row.dataset.xsName);
    const retry = answer.retry === false ? null : () => forceOut(row, button, reason);
    complain(row, sentence(answer, texts.nobody, unknown), { retry });
  };

  const endSession = async (line, button) => {
    if (button.getAttribute("aria-busy") === "true") return;
    button.setAttribute("aria-busy", "true");
    button.setAttribute("aria-disabled", "true");
    const detail = line.closest(".xs-detail");
    const answer = await post(button.formAction, [["session_id", button.value]]);
    if (answer.status === "leaving") return;
    if (answer.row) {
      line.classList.add("xs-gone");
      line.tabIndex = -1;
      button.replaceWith(make("span", "xs-result", answer.text));
      line.focus({ preventScroll: true });
      say(answer.message);
      const row = document.getElementById(detail.id.replace("sessions-", "user-"));
      const expanded = row.querySelector("[data-xs-expand]");
      const count = rowsIn(answer.row)[0]?.querySelector("[data-xs-expand]");
      if (count) {
        expanded.textContent = count.textContent;
        expanded.setAttribute("aria-label", count.getAttribute("aria-label"));
      }
      document.dispatchEvent(new CustomEvent("xs-acted"));
      return;
    }
    button.removeAttribute("aria-busy");
    button.removeAttribute("aria-disabled");
    if (isOver(answer)) {
      button.disabled = true;
      complain(line, answer.message, { isCalm: true });
      document.dispatchEvent(new CustomEvent("xs-acted"));
      return;
    }
    const retry = answer.retry === false ? null : () => endSession(line, button);
    complain(line, sentence(answer, texts.unchanged, texts.unknownEnd), { retry });
  };

  form.addEventListener("submit", (event) => {
    const button = event.submitter;
    if (!button?.matches("[name=user_id],[name=session_id]")) return;
    event.preventDefault();
    const row = button.closest("tr");
    if (hasMoved(row)) warnOfMove(row);
    else if (button.name === "session_id") endSession(row, button);
    else forceOut(row, button);
  });

  // A second press of a key finds the row itself in focus, and does nothing.
  form.addEventListener("keydown", (event) => {
    if (event.target.matches("tr") && (event.key === " " || event.key === "Enter")) event.preventDefault();
  });

  // The question before a force logout: its reason, or a confirmation.
  const dialog = document.getElementById("xs-ask");
  const reason = dialog.querySelector("textarea");
  const counter = dialog.querySelector("[data-xs-length]");
  const title = dialog.querySelector("h2");
  const extent = dialog.querySelector("[data-several]");
  const extents = [extent.textContent, extent.dataset.several];
  let asked = null;
  reason.addEventListener("input", () => { counter.textContent = reason.value.length; });
  dialog.addEventListener("close", () => {
    if (dialog.returnValue === "act" && asked) asked(reason.value);
    asked = null;
  });
  const ask = (whom, then, isSeveral = false) => {
    asked = then;
    title.textContent = title.dataset.title.replace("{user}", () => whom);
    extent.textContent = extents[Number(isSeveral)];
    reason.value = "";
    counter.textContent = "0";
    dialog.returnValue = "";
    dialog.showModal();
    reason.focus();
  };
  form.addEventListener("click", (event) => {
    const link = event.target.closest("[data-xs-ask]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    const row = link.closest("tr");
    if (hasMoved(row)) return warnOfMove(row);
    closeMenus();
    const button = row.querySelector(".xs-force");
    button.focus({ preventScroll: true });
    ask(row.dataset.xsName, (text) => forceOut(row, button, text));
  });

  // The small menus -------------------------------------------------------------

  const closeMenus = (except) => {
    for (const menu of document.querySelectorAll(".xs-more[open]")) if (menu !== except) menu.open = false;
  };
  document.addEventListener("click", (event) => closeMenus(event.target.closest(".xs-more")));
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    const menu = document.querySelector(".xs-more[open]");
    if (!menu) return;
    menu.open = false;
    menu.querySelector("summary").focus();
  });

  // Expanded rows -----------------------------------------------------------------

  const toggle = async (link) => {
    const row = document.getElementById(link.dataset.xsDetail);
    const cell = row.firstElementChild;
    if (row.hidden) {
      if (link.getAttribute("aria-busy") === "true") return;
      link.setAttribute("aria-busy", "true");
      try {
        const response = await fetch(link.dataset.xsExpand, { headers });
        if (!response.ok) throw new Error(response.statusText);
        cell.innerHTML = await response.text();
      } catch {
        location.assign(link.href);
        return;
      } finally {
        link.removeAttribute("aria-busy");
      }
    }
    row.hidden = !row.hidden;
    link.setAttribute("aria-expanded", String(!row.hidden));
  };
  const prepare = (link) => {
    const row = document.getElementById(link.dataset.xsDetail);
    link.setAttribute("role", "button");
    link.setAttribute("aria-controls", row.id);
    link.setAttribute("aria-expanded", String(!row.hidden));
  };
  for (const link of form.querySelectorAll("[data-xs-expand]")) prepare(link);
  form.addEventListener("click", (event) => {
    const link = event.target.closest("[data-xs-expand]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    toggle(link);
  });
  form.addEventListener("keydown", (event) => {
    if (event.key !== " " || !event.target.matches("[data-xs-expand]")) return;
    event.preventDefault();
    toggle(event.target);
  });

  // For the bar of the selected users.
  form.xsActs = { ask, complain, forceOut, post, replaceRow, rowsIn, say, setBusy, settle };

  document.querySelector("[data-xs-focus]")?.focus();

  // The rows of before an act are not shown again when the page is reloaded.
  const here = new URL(location.href);
  if (here.searchParams.has("kept")) {
    here.searchParams.delete("kept");
    here.hash = "";
    history.replaceState(null, "", here);
  }
})();
