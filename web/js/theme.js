// Applies the chosen theme before the first paint. A classic script, so that it runs before the page is shown.
(() => {
  try {
    const theme = localStorage.getItem("gatehouse.theme");
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  } catch {
    // Storage is blocked: use the system's theme.
  }
})();
