// Calls the API every three seconds, and lists where else one is signed in. When the session ends,
// the API answers 401, and the session guard leaves for the sign-in page.
(() => {
  "use strict";
  const EVERY_MS = 3000;
  const LIST_EVERY = 5; // calls
  const ANSWER_MS = 30_000; // an answer that comes later is not waited for

  const pulse = document.getElementById("pulse");
  const pulseText = pulse.querySelector("[aria-live]");
  const section = document.getElementById("sessions");
  const list = section.querySelector("ul");
  const row = section.querySelector("template");
  const status = section.querySelector("[role=status]");
  const more = section.querySelector("[data-more]");
  const korean = document.documentElement.lang === "ko";
  let lastAnswer = "-";
  let shown = "";
  let requests = 0;
  let waiting = null;

  const clock = new Intl.DateTimeFormat("en", {
    timeZone: section.dataset.timezone,
    hourCycle: "h23",
    year: "numeric", month: "numeric", day: "numeric",
    hour: "2-digit", minute: "2-digit", second: "2-digit",
  });

  const zone = new Intl.DateTimeFormat("en", {
    timeZone: section.dataset.timezone,
    timeZoneName: "longOffset",
  });

  const partsOf = (formatter, at) =>
    Object.fromEntries(formatter.formatToParts(at).map(({ type, value }) => [type, value]));

  const offsetOf = (at) => {
    const name = partsOf(zone, at).timeZoneName;
    return name === "GMT" ? "UTC+00:00" : name.replace("GMT", "UTC");
  };

  // A time with another offset than now's, which the heading has, comes with its own.
  const format = (at) => {
    const part = partsOf(clock, at);
    const day = `${part.year}. ${part.month}. ${part.day}.`;
    const time = korean
      ? `${part.hour}시 ${part.minute}분 ${part.second}초`
      : `${part.hour}:${part.minute}:${part.second}`;
    const offset = offsetOf(at);
    return offset === offsetOf(new Date()) ? `${day} ${time}` : `${day} ${time} (${offset})`;
  };

  const call = (url, options = {}) =>
    fetch(url, {
      ...options,
      headers: { Accept: "application/json" },
      cache: "no-store",
      signal: AbortSignal.timeout(ANSWER_MS),
    });

  const say = (text, failed = false) => {
    status.textContent = text;
    status.classList.toggle("xa-failed", failed);
  };

  const end = async (session, button) => {
    button.disabled = true;
    let isCertain = false;
    try {
      const response = await call(section.dataset.sessions + encodeURIComponent(session.session_id), { method: "DELETE" });
      isCertain = response.status < 500;
      if (!response.ok && response.status !== 404) throw new Error(response.statusText);
    } catch {
      button.disabled = false;
      say(isCertain ? section.dataset.failed : section.dataset.lost, true);
      return;
    }
    // The row stays until the pointer has left: a second click meets no other button.
    const done = document.createElement("span");
    done.className = "xs-muted xa-done";
    done.textContent = section.dataset.done;
    button.replaceWith(done);
    document.getElementById("yours").focus();
    say(section.dataset.ended);
    await refresh().catch(() => {}); // the next call lists them
  };

  const show = (session) => {
    const item = row.content.cloneNode(true);
    const browser = session.browser || section.querySelector("[data-unknown]").textContent;
    const device = session.device ? `${browser} · ${session.device}` : browser;
    item.querySelector("b").textContent = device;
    item.querySelector("[data-current]").hidden = !session.current;
    const when = item.querySelector("[data-when]");
    when.textContent = when.dataset.when.replace("{time}", format(new Date(session.signed_in)));
    // Addresses break after colons only.
    const groups = (session.ip || "-").split(/(?<=:)(?=[^:])/);
    const parts = groups.flatMap((group) => [document.createElement("wbr"), group]);
    item.querySelector("[data-ip]").replaceChildren(...parts.slice(1));
    const button = item.querySelector("[data-end]");
    if (session.current) {
      button.remove();
    } else {
      button.setAttribute("aria-label", button.dataset.label.replace("{device}", device));
      button.addEventListener("click", () => end(session, button));
    }
    return item;
  };

  // Nothing moves below the pointer or the focus: the list waits until both have left it.
  const update = () => {
    if (!waiting || list.matches(":hover, :focus-within")) return;
    const { sessions, total } = waiting;
    waiting = null;
    const text = JSON.stringify([sessions, total]);
    if (text === shown) return;
    shown = text;
    list.replaceChildren(...sessions.map(show));
    const number = new Intl.NumberFormat(document.documentElement.lang);
    more.textContent = more.dataset.more
      .replace("{shown}", number.format(sessions.length))
      .replace("{total}", number.format(total));
    more.hidden = total <= sessions.length;
    section.hidden = false;
  };
  for (const left of ["pointerleave", "focusout"]) {
    list.addEventListener(left, () => setTimeout(update)); // after the event, it has been left
  }

  const refresh = async () => {
    requests += 1;
    const request = requests;
    const response = await call(`${section.dataset.sessions}?per_page=${section.dataset.shown}`);
    if (!response.ok) throw new Error(response.statusText);
    const answer = await response.json();
    if (request !== requests) return; // a later request knows better
    waiting = answer;
    update();
  };

  const beat = async (count) => {
    let text = pulse.dataset.silent;
    try {
      const response = await call(pulse.dataset.me);
      if (response.ok) {
        lastAnswer = format(new Date());
        text = pulse.dataset.answered;
      }
      if (response.ok && count % LIST_EVERY === 0) await refresh();
    } catch {
      text = pulse.dataset.silent;
    }
    pulse.classList.toggle("xa-silent", text === pulse.dataset.silent);
    pulseText.textContent = text.replace("{time}", lastAnswer);
    pulse.hidden = false;
    setTimeout(beat, EVERY_MS, count + 1);
  };

  beat(0);
})();
