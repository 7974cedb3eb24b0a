// Acts on a user's page in place. Without this script the same forms load the page again.
(() => {
  "use strict";

  // A second click at the place of the first one acts on nothing for a moment after the answer.
  const REST_MS = 1000;
  // An answer that comes later is not waited for.
  const ANSWER_MS = 30_000;

  const toast = document.querySelector("[data-xs-result]");
  const forms = document.querySelectorAll("form[data-xs-act]");
  let busy = false;

  // The table of sessions scrolls within its place where it is wider.
  const table = document.querySelector(".xs-devices");
  const place = table?.parentElement;
  const fit = () => place.classList.toggle("xs-scroll", table.offsetWidth > place.clientWidth);
  const widths = new ResizeObserver(fit);
  for (const each of table ? [table, place] : []) widths.observe(each);

  const say = (message, isFailure, retry) => {
    toast.replaceChildren();
    toast.classList.toggle("xs-failed", isFailure);
    const text = document.createElement("span");
    text.textContent = message;
    toast.append(text);
    if (!retry) return;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "xs-button";
    button.textContent = toast.dataset.retry;
    button.addEventListener("click", retry);
    toast.append(button);
  };

  const markEnded = (row) => {
    const cell = row.querySelector(".xs-c-action");
    const had = cell.contains(document.activeElement);
    const done = document.createElement("span");
    done.className = "xs-done";
    done.textContent = `✓ ${toast.dataset.ended}`;
    cell.replaceChildren(done);
    row.classList.add("xs-gone");
    if (had) {
      row.tabIndex = -1;
      row.focus({ preventScroll: true });
    }
  };

  const showEnded = (ended) => {
    const open = document.querySelectorAll("[data-xs-session]:not(.xs-gone)");
    for (const row of open) {
      if (ended === "all" || ended.includes(row.dataset.xsSession)) markEnded(row);
    }
    const total = document.querySelector("[data-xs-total]");
    const digits = total.textContent.replace(/\D/g, "");
    const left = ended === "all" ? 0 : Math.max(0, Number(digits) - ended.length);
    if (ended === "all" || !total.textContent.includes("+")) {
      total.textContent = left.toLocaleString(document.documentElement.lang || "en");
    }
    for (const form of forms) {
      if (form.dataset.xsAct === "leaver" || form.dataset.xsAct === "one") continue;
      for (const button of form.querySelectorAll("button")) {
        if (left === 0 || (button.name === "keep_newest" && left < 2)) disable(button);
      }
    }
  };

  // A part about to be disabled or hidden would lose the focus: it moves to the heading.
  const leave = (part) => {
    if (!part.contains(document.activeElement)) return;
    const section = part.closest("section") ?? document.querySelector(".xs-person-active");
    const heading = section.querySelector("h2");
    heading.tabIndex = -1;
    heading.focus({ preventScroll: true });
  };

  const disable = (button) => {
    leave(button);
    button.disabled = true;
  };

  const closeMenu = (menu) => {
    const summary = menu.querySelector("summary");
    if (!menu.querySelector("button:enabled")) leave(menu);
    else if (menu.contains(document.activeElement)) summary.focus({ preventScroll: true });
    menu.open = false;
  };

  const act = async (form, submitter) => {
    if (busy) return;
    busy = true;
    submitter?.setAttribute("aria-busy", "true");
    const fields = new FormData(form);
    if (submitter?.name) fields.set(submitter.name, submitter.value);
    const again = () => act(form, submitter);
    try {
      const response = await fetch(form.action, {
        method: "POST",
        body: fields,
        headers: { "X-Requested-With": "XMLHttpRequest" },
        signal: AbortSignal.timeout(ANSWER_MS),
      });
      const result = await response.json().catch(() => ({}));
      if (result.sign_in) {
        location.assign(result.sign_in);
        return;
      }
      if (result.status === "done") {
        showEnded(result.ended);
        const account = document.querySelector("[data-xs-account]");
        if (account && result.account) {
          account.textContent = result.account;
          account.classList.toggle("xs-inactive", !result.is_active);
        }
        if (form.dataset.xsAct === "leaver") disable(submitter);
        const menu = form.closest("[data-xs-pop]");
        if (menu) closeMenu(menu);
      }
      // Without a message, something between here and the application answered.
      const certain = response.status < 500 || result.code === "denylist_unavailable";
      const message = result.message || toast.dataset[certain ? "failed" : "lost"];
      say(message, result.status !== "done", result.retry === false ? null : again);
    } catch {
      say(toast.dataset.lost, true, again);
    } finally {
      submitter?.removeAttribute("aria-busy");
      setTimeout(() => {
        busy = false;
      }, REST_MS);
    }
  };

  for (const form of forms) {
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      act(form, event.submitter);
    });
  }

  const pops = document.querySelectorAll("[data-xs-pop]");
  document.addEventListener("click", (event) => {
    for (const pop of pops) if (!pop.contains(event.target)) pop.open = false;
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    for (const pop of pops) {
      if (!pop.open) continue;
      pop.open = false;
      pop.querySelector("summary").focus();
    }
  });

  // The result is not repeated when the page is reloaded.
  const here = new URL(location.href);
  if (here.searchParams.has("result")) {
    here.searchParams.delete("result");
    history.replaceState(null, "", here);
  }
})();
