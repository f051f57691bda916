// If part of the page fails to load, for instance during a network change or a server restart: reloads the page, and
// shows a notice if that does not help. A separate classic script, so that it does not depend on what failed to load.
(() => {
  const KEY = "gatehouse.loading";
  /** Reloads in a row before the notice is shown. */
  const QUIET_TRIES = 3;
  /** Between automatic reloads after that. */
  const PAUSE = 10_000;
  /** Grace period after an error, in case it does not matter. */
  const GRACE = 1_500;
  /** Whether a failure is being handled. */
  let failed = false;
  /** The page is there, but a stylesheet is missing. */
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
      // Without storage the tries cannot be counted: show the notice every time.
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

  /** Reloads the page if the server is reachable: the browser's own error page would not retry. */
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

  /** The missing part has arrived after all. */
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
    text.textContent = chinese ? "页面加载失败，稍后会自动重试。" : "The page could not be loaded. Retrying automatically.";
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
    // A page that is there is not replaced because of a missing stylesheet.
    if (!isEmpty()) return;
    say();
    timer = setTimeout(again, PAUSE);
    window.addEventListener("online", again);
  };

  // Extensions and proxies inject elements of their own, which may fail as well.
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
  /** An error occurred: it matters if the page is still empty after the grace period. */
  const doubt = () => isEmpty() && setTimeout(() => isEmpty() && fail(), GRACE);
  window.addEventListener("unhandledrejection", doubt);
  const settled = setInterval(() => {
    if (failed || isEmpty()) return;
    clearInterval(settled);
    store(0);
  }, 1_000);
})();
