// If a part of the page fails to load, because the network changes or the server restarts, reloads the page, and shows
// a message if that does not help. A separate classic script, because it must not depend on what is missing.
(() => {
  const KEY = "gatehouse.loading";
  /** This many consecutive reloads happen without a message. */
  const QUIET_TRIES = 3;
  /** Interval of automatic reloads after that. */
  const PAUSE = 10_000;
  /** Time to see whether an error matters. */
  const GRACE = 1_500;
  /** Whether a failure is being handled. */
  let failed = false;
  /** The page is shown, but a style sheet is missing. */
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
      // Without storage the attempts cannot be counted, so each one shows the message.
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

  /** Reloads if the server is reachable; otherwise the browser's error page would end the retries. */
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

  /** The missing part has loaded after all. */
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
    text.textContent = chinese ? "页面未能完整加载，稍后会自动重试。" : "The page could not be loaded. It will be retried automatically.";
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
    // A working page is not replaced just because a style sheet is missing.
    if (!isEmpty()) return;
    say();
    timer = setTimeout(again, PAUSE);
    window.addEventListener("online", again);
  };

  // Extensions and proxies inject their own resources, whose failures do not matter.
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
  /** An error counts as a failure only if the page is still empty after a while. */
  const doubt = () => isEmpty() && setTimeout(() => isEmpty() && fail(), GRACE);
  window.addEventListener("unhandledrejection", doubt);
  const settled = setInterval(() => {
    if (failed || isEmpty()) return;
    clearInterval(settled);
    store(0);
  }, 1_000);
})();
