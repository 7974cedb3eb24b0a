// Sends the page to the sign-in page once a call is answered "401 invalid_token" (RFC 6750):
// the session was ended, here or elsewhere. One tag does it:
//   <script src="/sessions/static/session-guard.js" data-sign-in="/login"></script>
(() => {
  "use strict";
  const signIn = document.currentScript?.dataset.signIn || "/login";
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
})();
