// The menu of Flask-Admin's own layout opens by links to "javascript:void(0)". The page's policy
// blocks such an address, and the browser reports an error at each click: the click ends here, and
// the menu opens by its own listeners.
document.addEventListener("click", (event) => {
  if (event.target.closest('a[href^="javascript:"]')) event.preventDefault();
}, true);
