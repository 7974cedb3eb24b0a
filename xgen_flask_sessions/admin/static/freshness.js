// Keeps an open list current: asks every ten seconds whether anything changed, and changes rows in
// place. It never inserts, orders or removes rows, and moves none that may be under the pointer.
(() => {
  "use strict";
  const EVERY_MS = 10_000;
  const LONGEST_MS = 300_000;
  const PATIENCE_MS = 20_000;
  // Each sixth poll is unconditional: names and roles of users do not change the tag.
  const CONDITIONAL = 6;
  const STORED = "xgen-sessions-follow";
  const ACTED_ON = "[aria-busy=true], .xs-trouble";

  const root = document.querySelector("[data-xs-poll]");
  if (!root) return;
  const table = document.querySelector(".xs-list");
  const main = table.closest(".xs-main");
  const [follow, time, link, told] = [".xs-follow", ".xs-as-of", ".xs-newcomers", ".xs-told"].map(
    (each) => root.querySelector(each),
  );
  let { xsTag: tag, xsOffset: offset } = root.dataset;
  let asOf = Number(root.dataset.xsLoaded) / 1000;
  let ahead = asOf - Date.now(); // the server's clock, compared with this machine's
  let timer = 0;
  let polls = 0;
  let acts = 0; // of the administrator, on this page
  let failures = 0;
  let polling = false;
  let following = true;

  // The state ------------------------------------------------------------------------------------

  const stored = (value) => {
    try {
      if (value) localStorage.setItem(STORED, value);
      return localStorage.getItem(STORED);
    } catch {
      return null; // the browser forbids it
    }
  };

  const clock = (at) => {
    const local = new Date(at + offset * 1000).toISOString();
    return root.dataset.xsClock
      .replace("%H", local.slice(11, 13))
      .replace("%M", local.slice(14, 16))
      .replace("%S", local.slice(17, 19));
  };

  const show = () => {
    const isStale = following && failures > 0;
    const text = isStale ? root.dataset.xsStale : root.dataset.xsAsOf;
    time.textContent = text.replace("%(time)s", clock(asOf));
    time.dateTime = new Date(asOf).toISOString();
    root.dataset.xsState = isStale ? "stale" : following ? "following" : "paused";
    follow.setAttribute("aria-pressed", String(following));
    if (isStale && failures === 1) told.textContent = time.textContent;
  };

  const plan = (wait) => {
    clearTimeout(timer);
    if (following && !document.hidden) timer = setTimeout(poll, wait);
  };

  // Changes in place -----------------------------------------------------------------------------

  const pending = new Map();

  // Rows below a change would move: not while the pointer may be about to click, and on a touch
  // screen, whose pointer is not known, only while no one looks.
  const mayMove = () =>
    document.hidden || (matchMedia("(hover: hover)").matches && !main.matches(":hover"));

  const heightOf = (row) => row.getBoundingClientRect().height;

  const change = (row, cell, nodes) => {
    if (cell.contains(document.activeElement)) return false;
    const before = [...cell.childNodes];
    const height = heightOf(row);
    cell.replaceChildren(...nodes);
    if (heightOf(row) === height || mayMove()) return true;
    cell.replaceChildren(...before);
    return false;
  };

  // Tries a task, and again later until it is done: a task returns whether it is.
  const attempt = async (key, task) => {
    const again = () => attempt(key, task);
    pending.set(key, again);
    if ((await task()) && pending.get(key) === again) pending.delete(key);
  };

  // A task that fails stays, as when the server does not answer.
  const settle = () => {
    for (const again of [...pending.values()]) again().catch(() => {});
  };

  const detailOf = (row) => document.getElementById(row.id.replace("user-", "sessions-"));

  // Reads the sessions each time, as those of an earlier answer may have ended; and only while they
  // may move, as another session's button would lie under the pointer.
  const refreshSessions = async (row, count) => {
    const detail = detailOf(row);
    if (!row.isConnected || row.matches(".xs-gone") || !detail || detail.hidden) return true;
    if (detail.querySelector(ACTED_ON) || !mayMove()) return false;
    const before = acts;
    const answer = await fetch(count.dataset.xsExpand, {
      headers: { "X-Requested-With": "XMLHttpRequest" },
      signal: AbortSignal.timeout(PATIENCE_MS),
    });
    if (!answer.ok) throw answer;
    const parsed = document.createElement("template");
    parsed.innerHTML = await answer.text();
    if (acts !== before || detail.querySelector(ACTED_ON) || !mayMove()) return false;
    return change(detail, detail.firstElementChild, [...parsed.content.childNodes]);
  };

  const isActedOn = (row) => row.matches(".xs-gone, .xs-busy") || row.querySelector(ACTED_ON);

  const setCount = (row, text, label) => {
    const count = row.querySelector(".xs-count");
    if (count.textContent === text) return null;
    count.textContent = text; // the link itself stays, and so does the focus in it
    count.setAttribute("aria-label", label);
    return count;
  };

  const update = async (row, now) => {
    pending.delete(`${row.id} out`);
    for (const name of ["user", "name", "department", "login", "ip"]) {
      const [cell, next] = [row, now].map((each) => each.querySelector(`.xs-c-${name}`));
      if (next && cell && signature(cell) !== signature(next)) {
        attempt(`${row.id} ${name}`, () => change(row, cell, [...next.childNodes]));
      } else {
        pending.delete(`${row.id} ${name}`);
      }
    }
    const next = now.querySelector(".xs-count");
    const box = row.querySelector("[data-xs-sessions]");
    const nextBox = now.querySelector("[data-xs-sessions]");
    if (box && nextBox) box.dataset.xsSessions = nextBox.dataset.xsSessions;
    const count = setCount(row, next.textContent, next.getAttribute("aria-label"));
    if (count) await attempt(`${row.id} sessions`, () => refreshSessions(row, count));
  };

  // How long ago it was changes by itself.
  const signature = (cell) => cell.querySelector("time")?.dateTime ?? cell.innerHTML.trim();

  // The user signed out, or somebody else ended the sessions: the row stays, without its buttons, and
  // as long as its menu is open, with them.
  const signOut = (row) => {
    if (!row.isConnected || isActedOn(row)) return true;
    if (row.querySelector(".xs-more[open]")) return false;
    row.style.minHeight = `${heightOf(row)}px`;
    const action = row.querySelector(".xs-c-action");
    const detail = detailOf(row);
    if ([action, detail].some((each) => each.contains(document.activeElement))) {
      row.focus({ preventScroll: true });
    }
    const note = document.createElement("span");
    note.className = "xs-result";
    note.textContent = root.dataset.xsSignedOut;
    action.replaceChildren(note);
    setCount(row, "0", root.dataset.xsNoSession.replace("{user}", () => row.dataset.xsName));
    for (const button of detail.querySelectorAll("button")) button.disabled = true;
    const box = row.querySelector("input[type=checkbox]");
    if (box && !box.checked) box.disabled = true;
    row.classList.add("xs-gone");
    return true;
  };

  const refreshRows = async () => {
    const rows = [...table.querySelectorAll("tr[data-xs-user]")].filter((row) => !isActedOn(row));
    const token = document.querySelector("#xs-acts [name=csrf_token]").value;
    const { xsLoaded: loaded_us, xsRecent: recent } = root.dataset;
    const body = new URLSearchParams({ csrf_token: token, loaded_us, recent });
    for (const row of rows) body.append("shown", row.dataset.xsUser);
    const before = acts;
    const answer = await fetch(root.dataset.xsRows, {
      method: "POST", body, signal: AbortSignal.timeout(PATIENCE_MS),
    });
    if (!answer.ok) throw answer;
    const { rows: html, newcomers } = await answer.json();
    const parsed = document.createElement("template");
    parsed.innerHTML = `<table><tbody>${html}</tbody></table>`;
    const found = new Map(
      [...parsed.content.querySelectorAll("tr[data-xs-user]")].map((row) => [row.dataset.xsUser, row]),
    );
    for (const row of rows) {
      if (acts !== before) return refreshRows(); // the answer is older than the act
      if (isActedOn(row)) continue; // meanwhile
      const now = found.get(row.dataset.xsUser);
      if (now) await update(row, now);
      else attempt(`${row.id} out`, () => signOut(row));
    }
    announce(newcomers);
  };

  const announce = ({ count, text }) => {
    const shown = link.querySelector("[data-xs-count]");
    if (shown.textContent === text) return;
    shown.textContent = text;
    link.hidden = !count;
    if (count) told.textContent = text;
  };

  // Polls ----------------------------------------------------------------------------------------

  // Not signed in any more, or no administrator: the page must not look alive. The session guard
  // follows a refused token by itself.
  const leaves = (answer) => {
    const gone = answer.type === "opaqueredirect" || [401, 403].includes(answer.status);
    if (gone && !/\berror="invalid_token"/.test(answer.headers.get("WWW-Authenticate") || "")) {
      if (performance.now() > EVERY_MS) location.reload();
    }
    return gone;
  };

  const ask = async () => {
    const started = Date.now();
    polls += 1;
    const answer = await fetch(root.dataset.xsPoll, {
      cache: "no-store",
      redirect: "manual",
      headers: {
        "X-Requested-With": "XMLHttpRequest",
        ...(polls % CONDITIONAL && tag ? { "If-None-Match": tag } : {}),
      },
      signal: AbortSignal.timeout(PATIENCE_MS),
    });
    if (leaves(answer)) throw answer;
    if (answer.status === 304) {
      asOf = started + ahead;
    } else if (answer.ok) {
      const now = await answer.json();
      await refreshRows();
      for (const [name, number] of Object.entries(now.summary)) {
        const place = document.querySelector(`[data-xs-summary="${name}"]`);
        if (place) place.textContent = number;
      }
      // Only now: a poll whose rows failed must be repeated.
      tag = answer.headers.get("ETag");
      offset = now.offset_s;
      asOf = Date.parse(now.as_of);
      ahead = asOf - started;
    } else {
      throw answer;
    }
    settle();
  };

  const poll = async () => {
    if (polling) return;
    polling = true;
    clearTimeout(timer);
    let wait = EVERY_MS;
    try {
      await ask();
      failures = 0;
    } catch (failure) {
      failures += 1;
      const asked = Number(failure.headers?.get?.("Retry-After")) || 0;
      wait = Math.max(Math.min(EVERY_MS * 2 ** failures, LONGEST_MS), asked * 1000);
    } finally {
      polling = false;
      show();
      plan(wait);
    }
  };

  const resume = () => (following && !document.hidden ? poll() : clearTimeout(timer));

  // What was open stays open, and where it was ----------------------------------------------------

  const refresh = document.querySelector("form[data-xs-refresh]");
  refresh?.addEventListener("submit", () => {
    for (const each of refresh.querySelectorAll("[name=expand]")) each.remove();
    for (const count of table.querySelectorAll(".xs-count[aria-expanded=true]")) {
      const kept = document.createElement("input");
      Object.assign(kept, { type: "hidden", name: "expand" });
      kept.value = count.closest("tr").dataset.xsUser;
      refresh.append(kept);
    }
    try {
      sessionStorage.setItem(STORED, String(scrollY));
    } catch {
      // the browser forbids it
    }
  });
  try {
    const top = sessionStorage.getItem(STORED);
    sessionStorage.removeItem(STORED);
    if (top !== null) scrollTo(0, Number(top));
  } catch {
    // the browser forbids it
  }

  following = stored() !== "off";
  follow.hidden = false;
  follow.addEventListener("click", () => {
    following = !following;
    stored(following ? "on" : "off");
    failures = 0;
    show();
    resume();
  });
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) settle();
    resume();
  });
  addEventListener("pageshow", (event) => event.persisted && resume());
  addEventListener("online", resume);
  document.addEventListener("xs-acted", () => {
    acts += 1;
    resume(); // the cards change with it
  });
  table.addEventListener("toggle", settle, true); // a menu was closed
  main.addEventListener("pointerleave", settle);
  show();
  plan(EVERY_MS);
})();
