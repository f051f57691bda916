// When a part of the page does not arrive, as while the network changes or the server starts anew: the page is loaded
// again, and says so if that does not help. A classic script of its own: it must not need what is missing.
(() => {
  const KEY = "gatehouse.loading";
  /** Loads in a row that are not worth a word. */
  const QUIET_TRIES = 3;
  /** Afterwards, by itself. */
  const PAUSE = 10_000;
  /** For an error to turn out not to matter. */
  const GRACE = 1_500;
  /** Whether it is at it. */
  let failed = false;
  /** The page is there, but not as it should look. */
  let unstyled = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  /** @type {HTMLElement | null} */
  let box = null;

  const isEmpty = () => !document.getElementById("app")?.hasChildNodes();

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

  /** Loads the page if there is somebody to load it from: the browser's own error page would not try again. */
  const again = async () => {
    clearTimeout(timer);
    if (!isEmpty() && !unstyled) return recover();
    try {
      await fetch(location.href, { method: "HEAD", cache: "no-store", signal: AbortSignal.timeout(5_000) });
    } catch {
      say();
      timer = setTimeout(again, 1_000);
      return;
    }
    store(stored() + 1);
    location.reload();
  };

  /** What was missing has come after all. */
  const recover = () => {
    failed = false;
    box?.remove();
    box = null;
    store(0);
  };

  const say = () => {
    if (box || !document.body || !isEmpty()) return;
    const chinese = (navigator.language || "").toLowerCase().startsWith("zh");
    box = document.createElement("div");
    box.className = "loading-failed";
    box.setAttribute("role", "alert");
    const text = document.createElement("p");
    text.textContent = chinese ? "页面未能完整加载，稍后会自动重试。" : "The page could not be loaded. It is tried again by itself.";
    const button = document.createElement("button");
    button.textContent = chinese ? "立即重试" : "Try now";
    button.addEventListener("click", again);
    box.append(text, button);
    document.body.append(box);
  };

  const fail = () => {
    if (failed) return;
    failed = true;
    const tries = stored();
    if (tries < QUIET_TRIES) {
      timer = setTimeout(again, 250 * 2 ** tries);
      return;
    }
    // A page that is there is not taken away for its looks.
    if (!isEmpty()) return;
    say();
    timer = setTimeout(again, PAUSE);
    window.addEventListener("online", again);
  };

  // Extensions and proxies put things of their own into pages, and these fail, too.
  const isOurs = (/** @type {string} */ url) => url.startsWith(`${location.origin}/`);
  window.addEventListener(
    "error",
    ({ target }) => {
      if (target instanceof HTMLScriptElement && isOurs(target.src)) fail();
      if (target instanceof HTMLLinkElement && target.rel === "stylesheet" && isOurs(target.href)) {
        unstyled = true;
        fail();
      }
      if (target === window) doubt();
    },
    true,
  );
  /** Something went wrong: if nothing is shown after a while, it mattered. */
  const doubt = () => isEmpty() && setTimeout(() => isEmpty() && fail(), GRACE);
  window.addEventListener("unhandledrejection", doubt);
  const settled = setInterval(() => {
    if (failed || isEmpty()) return;
    clearInterval(settled);
    store(0);
  }, 1_000);
})();
