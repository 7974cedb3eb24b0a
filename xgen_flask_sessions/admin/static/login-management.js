// Expands a row in place. Without this script the same links load the page with the row expanded.
(() => {
  "use strict";

  const fetchText = async (url) => {
    const response = await fetch(url, { headers: { "X-Requested-With": "XMLHttpRequest" } });
    if (!response.ok) throw new Error(response.statusText);
    return response.text();
  };

  const toggle = async (link) => {
    const row = document.getElementById(link.dataset.xsDetail);
    const cell = row.firstElementChild;
    if (row.hidden) {
      if (link.getAttribute("aria-busy") === "true") return;
      link.setAttribute("aria-busy", "true");
      try {
        cell.innerHTML = await fetchText(link.dataset.xsExpand);
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

  for (const link of document.querySelectorAll("[data-xs-expand]")) {
    const row = document.getElementById(link.dataset.xsDetail);
    link.setAttribute("role", "button");
    link.setAttribute("aria-controls", row.id);
    link.setAttribute("aria-expanded", String(!row.hidden));
    link.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      toggle(link);
    });
    link.addEventListener("keydown", (event) => {
      if (event.key === " ") {
        event.preventDefault();
        toggle(link);
      }
    });
  }

  document.querySelector("[data-xs-focus]")?.focus();

  // A notice is not repeated when the page is reloaded.
  const here = new URL(location.href);
  if (here.searchParams.has("revocation")) {
    here.searchParams.delete("revocation");
    history.replaceState(null, "", here);
  }
})();
