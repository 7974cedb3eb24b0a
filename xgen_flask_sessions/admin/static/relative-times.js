// Keeps "3 minutes ago" true while the page stays open: in each <small class="xs-ago"> after a
// <time datetime>, cut to the largest whole unit as the server does.
(() => {
  "use strict";
  const UNITS = [
    ["year", 365 * 86400], ["month", 30 * 86400], ["week", 7 * 86400], ["day", 86400],
    ["hour", 3600], ["minute", 60],
  ];
  const MINUTE_MS = 60_000;
  const SKEW_S = 5; // a time from a machine whose clock is ahead
  const { language, now: loaded, justNow, soon } = document.currentScript.dataset;
  const words = new Intl.RelativeTimeFormat(language);
  // The server's clock counts: this machine's may be wrong.
  const ahead = Number(loaded) - Date.now();

  const text = (at) => {
    const seconds = (at - Date.now() - ahead) / 1000;
    const unit = UNITS.find((each) => Math.abs(seconds) >= each[1]);
    if (!unit) return seconds > SKEW_S ? soon : justNow;
    return words.format(Math.trunc(seconds / unit[1]), unit[0]);
  };

  const update = () => {
    if (document.hidden) return;
    for (const ago of document.querySelectorAll("time[datetime] + .xs-ago")) {
      const now = text(Date.parse(ago.previousElementSibling.dateTime));
      if (ago.textContent !== now) ago.textContent = now;
    }
  };

  setInterval(update, MINUTE_MS / 2);
  document.addEventListener("visibilitychange", update);
})();
