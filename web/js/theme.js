// Applies the chosen theme before the first paint. A classic script, because modules run too late for that.
(() => {
  try {
    const theme = localStorage.getItem("gatehouse.theme");
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  } catch {
    // Storage is blocked: use the system's theme.
  }
})();
