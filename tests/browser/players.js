// Shared by the tests of players: what they do inside a page, in every browser. Each function is self-contained, because
// it is evaluated in the page.

/**
 * Publishes a moving green picture, as VP8, and a tone, until the page is closed.
 * @param {{ base: string, token: string, stream: string }} target
 */
export async function publish({ base, token, stream }) {
  const { WhipPublisher } = await import(`${base}/js/whip-publisher.js`);
  // The publisher prefers H.264, which Firefox cannot decode everywhere.
  const prefer = RTCRtpTransceiver.prototype.setCodecPreferences;
  RTCRtpTransceiver.prototype.setCodecPreferences = function (codecs) {
    prefer.call(this, codecs.filter(({ mimeType }) => mimeType === "video/VP8"));
  };
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [320, 240];
  const context = canvas.getContext("2d");
  let hue = 0;
  setInterval(() => {
    context.fillStyle = "rgb(0, 160, 0)";
    context.fillRect(0, 0, 320, 240);
    context.fillStyle = `hsl(${(hue += 5)}, 80%, 50%)`;
    context.fillRect(0, 0, 80, 60);
  }, 40);
  const [sound] = (await navigator.mediaDevices.getUserMedia({ audio: true })).getAudioTracks();
  const publisher = new WhipPublisher(`${base}/whip/camera/${stream}`, { token });
  globalThis.publisher = publisher;
  publisher.setTrack("audio", sound);
  publisher.setTrack("video", canvas.captureStream(25).getVideoTracks()[0]);
  publisher.start();
  while (publisher.state !== "live") await new Promise((resolve) => setTimeout(resolve, 50));
}

/**
 * Watches with our player until it says that it plays, and returns the states on the way and the colour it shows; the
 * code if it gives up.
 * @param {{ base: string, token: string, stream: string }} target
 */
export async function watchWithPlayer({ base, token, stream }) {
  const { WhepPlayer } = await import(`${base}/js/whep-player.js`);
  const video = document.createElement("video");
  Object.assign(video, { muted: true, playsInline: true, autoplay: true });
  document.body.append(video);
  const player = new WhepPlayer(video, `${base}/whep/camera/${stream}`, { token });
  const states = [];
  player.addEventListener("state", () => states.push(player.state));
  player.start();
  while (player.state !== "playing" && player.state !== "blocked") await new Promise((resolve) => setTimeout(resolve, 50));
  if (player.state === "blocked") return { states, code: player.code };
  const decoded = async () => (await player.stats())?.framesDecoded ?? 0;
  const first = await decoded();
  while ((await decoded()) < first + 25) await new Promise((resolve) => setTimeout(resolve, 100));
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
  const context = canvas.getContext("2d");
  context.drawImage(video, 0, 0);
  const colour = [...context.getImageData(video.videoWidth / 2, video.videoHeight / 2, 1, 1).data.slice(0, 3)];
  player.stop();
  video.remove();
  return { states, colour, width: video.videoWidth };
}

/**
 * A player of somebody else: a plain RTCPeerConnection with the given sections (`audio`, `video`, `data`) in order.
 * Returns whether pictures and sound arrive, or the error.
 */
export async function watchPlainly({ base, token, stream, policy, sections, direction, only, needs }) {
  const peer = new RTCPeerConnection({ bundlePolicy: policy });
  const elements = [];
  peer.ontrack = ({ track }) => {
    const element = document.createElement(track.kind);
    Object.assign(element, { muted: track.kind === "video", autoplay: true, playsInline: true, srcObject: new MediaStream([track]) });
    document.body.append(element);
    element.play().catch(() => {});
    elements.push(element);
  };
  let session = "";
  const headers = { Authorization: `Bearer ${token}` };
  try {
    for (const section of sections) {
      if (section === "data") {
        peer.createDataChannel("data");
        continue;
      }
      const [kind, own] = section.split(" ");
      const transceiver = peer.addTransceiver(kind, { direction: own ?? direction ?? "recvonly" });
      if (kind === "video" && only) {
        transceiver.setCodecPreferences(RTCRtpReceiver.getCapabilities("video").codecs.filter(({ mimeType }) => mimeType === `video/${only}`));
      }
    }
    await peer.setLocalDescription();
    const response = await fetch(`${base}/whep/camera/${stream}`, {
      method: "POST",
      headers: { ...headers, "Content-Type": "application/sdp" },
      body: peer.localDescription.sdp,
    });
    const text = await response.text();
    if (response.status !== 201) return { refused: response.status, code: JSON.parse(text).error.code };
    session = new URL(response.headers.get("Location"), base).href;
    await peer.setRemoteDescription({ type: "answer", sdp: text });
    const seen = { video: 0, audio: 0 };
    const start = performance.now();
    while (performance.now() - start < 15_000) {
      for (const entry of (await peer.getStats()).values()) {
        if (entry.type !== "inbound-rtp") continue;
        if (entry.kind === "video") seen.video = Math.max(seen.video, entry.framesDecoded ?? 0);
        if (entry.kind === "audio") seen.audio = Math.max(seen.audio, entry.totalAudioEnergy ?? entry.audioLevel ?? 0);
      }
      if ((!needs.includes("video") || seen.video > 5) && (!needs.includes("audio") || seen.audio > 0)) return { fine: true };
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    return { ...seen, connection: peer.connectionState, answer: text };
  } catch (error) {
    return { error: `${error}` };
  } finally {
    peer.close();
    for (const element of elements) element.remove();
    if (session) await fetch(session, { method: "DELETE", headers });
  }
}

/** The ways in which players of others differ: the sections that they offer, and what must arrive from a camera. */
export function shapes({ sound }) {
  const both = sound ? ["video", "audio"] : ["video"];
  return [
    { sections: ["video", "audio"], needs: both },
    { sections: ["audio", "video"], needs: both },
    { sections: ["data", "audio", "video"], needs: both },
    { sections: ["video", "video", "video", "audio"], needs: both },
    { sections: ["audio", "video"], direction: "sendrecv", needs: both },
    { sections: ["audio inactive", "video"], needs: ["video"] },
    { sections: ["video"], needs: ["video"] },
    ...(sound ? [{ sections: ["audio"], needs: ["audio"] }] : []),
  ];
}
