// The page's line to the server: it tells at once when the login has ended.
import { goToLogin, whoAmI } from "./api.js";
import { SignalingClient } from "./signaling-client.js";

/** The server's word for a login that has ended. */
const LOGIN_ENDED = 4401;
/** Failed tries after which it is asked whether the login is still good. */
const DOUBT = 2;

/** This tab's name for itself: the same after a reload, another in another tab. */
function device() {
  const fresh = () => `tab-${crypto.getRandomValues(new Uint32Array(2)).join("-")}`;
  try {
    const known = sessionStorage.getItem("gatehouse.device") ?? fresh();
    sessionStorage.setItem("gatehouse.device", known);
    return known;
  } catch {
    return fresh();
  }
}

/** Keeps the line open as long as the page lives, or until the function that is returned is called. */
export function keepLine() {
  const address = `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/api/ws`;
  let line = new SignalingClient(address, { device: device(), label: "" });
  const begin = () => {
    line.addEventListener("end", (event) => {
      const code = event instanceof CustomEvent ? event.detail : 0;
      if (code === LOGIN_ENDED) return goToLogin();
      // A copy of this tab has taken its name: this one takes another.
      try {
        sessionStorage.removeItem("gatehouse.device");
      } catch {
        // Without storage each page has a name of its own anyway.
      }
      line = new SignalingClient(address, { device: device(), label: "" });
      begin();
    });
    line.addEventListener("state", async () => {
      // A socket that is refused does not say why.
      if (line.state !== "waiting" || line.failures < DOUBT) return;
      const me = await whoAmI().catch(() => undefined);
      if (me === null) goToLogin();
    });
    line.start();
  };
  begin();
  window.addEventListener("pagehide", () => line.stop());
  window.addEventListener("pageshow", (event) => event.persisted && line.start());
  return () => line.stop();
}
