// Sends the page to the sign-in page once a call is answered "401 invalid_token" (RFC 6750):
// the session was ended, here or elsewhere. One tag does it:
//   <script src="/sessions/static/session-guard.js" data-sign-in="/login"></script>
// With data-check="URL", a page for signed-in users asks that URL when it is looked at again, and
// leaves after any 401: it may have been hidden, or in the browser's cache, for hours.
(() => {
  "use strict";
  const { signIn = "/login", check } = document.currentScript?.dataset ?? {};
  let leaving = false;

  const refused = (status, challenge) =>
    status === 401 && /\berror="invalid_token"/.test(challenge || "");

  const leave = () => {
    if (leaving) return;
    leaving = true;
    const target = new URL(signIn, location.href);
    // The sign-in page of another origin would lead to this path on its own.
    if (target.origin === location.origin) {
      target.searchParams.set("next", location.pathname + location.search);
    }
    location.assign(target);
  };

  const fetchAsBefore = window.fetch;
  window.fetch = async (...args) => {
    const response = await fetchAsBefore(...args);
    if (refused(response.status, response.headers.get("WWW-Authenticate"))) leave();
    return response;
  };

  const sendAsBefore = XMLHttpRequest.prototype.send;
  XMLHttpRequest.prototype.send = function (...args) {
    this.addEventListener("load", () => {
      if (refused(this.status, this.getResponseHeader("WWW-Authenticate"))) leave();
    }, { once: true });
    return sendAsBefore.apply(this, args);
  };

  const ask = async () => {
    if (leaving || document.hidden) return;
    try {
      const answer = await fetchAsBefore(check, {
        method: "HEAD",
        cache: "no-store",
        headers: { "X-Requested-With": "XMLHttpRequest", "If-None-Match": "*" },
      });
      if (answer.status === 401) leave();
    } catch {
      // The server is not reached: the page says so when it is used.
    }
  };
  if (check) {
    document.addEventListener("visibilitychange", ask);
    window.addEventListener("pageshow", (event) => event.persisted && ask());
  }
})();
