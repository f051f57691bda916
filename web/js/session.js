// The page's line to the server: it tells at once when the login has ended.
import { goToLogin, whoAmI } from "./api.js";

const FIRST_RETRY = 1_000;
const LAST_RETRY = 30_000;
/** The server's word for a login that has ended. */
const LOGIN_ENDED = 4401;

/** Keeps a socket open as long as the page lives, or until the function that is returned is called. */
export function keepLine() {
  let failures = 0;
  let stopped = false;
  const open = () => {
    const address = `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/api/ws`;
    const socket = new WebSocket(address, "gatehouse.v1");
    socket.onmessage = () => (failures = 0);
    socket.onclose = async (event) => {
      if (stopped) return;
      if (event.code === LOGIN_ENDED) return goToLogin();
      const delay = Math.min(FIRST_RETRY * 2 ** failures, LAST_RETRY) * (0.75 + Math.random() / 4);
      failures += 1;
      await new Promise((resolve) => setTimeout(resolve, delay));
      // A socket that is refused does not say why.
      const me = await whoAmI().catch(() => undefined);
      if (me === null) return goToLogin();
      open();
    };
    window.addEventListener("pagehide", () => ((socket.onclose = null), socket.close()), { once: true });
  };
  open();
  return () => (stopped = true);
}
