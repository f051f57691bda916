// When a part of the page does not arrive, as while the network changes or the server starts anew: the page is loaded
// again, and says so if that does not help. A classic script of its own: it must not need what is missing.
(() => {
  const KEY = "gatehouse.loading";
  /** Loads in a row that are not worth a word. */
  const QUIET_TRIES = 3;
  /** Afterwards, by itself. */
  const PAUSE = 10_000;
  let failed = false;

  const stored = () => {
    try {
      return Number(sessionStorage.getItem(KEY) ?? 0);
    } catch {
      // Without storage nothing counts the tries: each one says so.
      return QUIET_TRIES;
    }
  };
  const store = (/** @type {number} */ tries) => {
    try {
      sessionStorage.setItem(KEY, `${tries}`);
    } catch {
      // See above.
    }
  };

  const again = () => location.reload();
  const say = () => {
    const chinese = (navigator.language || "").toLowerCase().startsWith("zh");
    const box = document.createElement("div");
    box.className = "loading-failed";
    box.setAttribute("role", "alert");
    const text = document.createElement("p");
    text.textContent = chinese ? "页面未能完整加载，稍后会自动重试。" : "The page could not be loaded. It is tried again by itself.";
    const button = document.createElement("button");
    button.textContent = chinese ? "立即重试" : "Try now";
    button.addEventListener("click", again);
    box.append(text, button);
    const show = () => document.body.append(box);
    if (document.body) show();
    else document.addEventListener("DOMContentLoaded", show);
  };

  const fail = () => {
    if (failed) return;
    failed = true;
    const tries = stored();
    store(tries + 1);
    if (tries < QUIET_TRIES) {
      setTimeout(again, 250 * 2 ** tries);
      return;
    }
    say();
    setTimeout(again, PAUSE);
    window.addEventListener("online", again);
  };

  const isEmpty = () => !document.getElementById("app")?.hasChildNodes();
  window.addEventListener(
    "error",
    ({ target }) => {
      const isPart = target instanceof HTMLScriptElement || (target instanceof HTMLLinkElement && target.rel === "stylesheet");
      if (isPart || (target === window && isEmpty())) fail();
    },
    true,
  );
  window.addEventListener("unhandledrejection", () => isEmpty() && fail());
  window.addEventListener("load", () => setTimeout(() => failed || isEmpty() || store(0), 1_000));
})();
