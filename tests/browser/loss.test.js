// Packet loss towards the browser: retransmission repairs single losses, the cached GOP repairs bursts.
import assert from "node:assert/strict";
import { createSocket } from "node:dgram";
import { after, before, test } from "node:test";
import { browser, gatehouse, moreFrames, openPage, rtcStats, tileState, until } from "./support.js";

let chromium;
before(async () => {
  chromium = await browser();
});
after(() => chromium.close());

/** Relays datagrams between the browser and the server, and drops those from the server for which `drops` is true. */
async function lossyWay(serverPort, drops) {
  const front = createSocket("udp4");
  const ways = new Map();
  front.on("message", (data, browserSide) => {
    const key = `${browserSide.address}:${browserSide.port}`;
    let back = ways.get(key);
    if (!back) {
      back = createSocket("udp4");
      back.on("message", (answer) => {
        // Only media, not the handshake (RFC 7983).
        const media = answer[0] >= 128 && answer[0] < 192 && answer.length > 300;
        if (!(media && drops())) front.send(answer, browserSide.port, browserSide.address);
      });
      ways.set(key, back);
    }
    back.send(data, serverPort, "127.0.0.1");
  });
  await new Promise((resolve) => front.bind(0, "127.0.0.1", resolve));
  return {
    port: front.address().port,
    close: () => [front, ...ways.values()].forEach((socket) => socket.close()),
  };
}

/** Opens the wall with all media passing through a relay. */
async function openThrough(server, relay) {
  const opened = await openPage(chromium, server);
  await opened.rewriteAnswers((answer) =>
    answer.replace(/a=candidate:.* tcp .*\r\n/g, "").replace(`127.0.0.1 ${server.port} typ`, `127.0.0.1 ${relay.port} typ`),
  );
  await opened.page.goto(server.url);
  await tileState(opened.page, "demo", "live");
  return opened;
}

test("single lost packets are retransmitted", async () => {
  const server = await gatehouse();
  let count = 0;
  const relay = await lossyWay(server.port, () => (count += 1) % 12 === 0);
  const { page, close, check } = await openThrough(server, relay);
  await until("packets were lost and retransmitted", async () => {
    const video = await rtcStats(page, "demo", "inbound-rtp", "video");
    return video && video.nackCount > 3 && (video.retransmittedPacketsReceived ?? 0) > 3;
  });
  await moreFrames(page, "demo", 50);
  check();
  await close();
  relay.close();
  await server.stop();
});

test("a burst of losses is repaired from the cached GOP", async () => {
  const server = await gatehouse();
  let blackout = false;
  const relay = await lossyWay(server.port, () => blackout);
  const { page, close, check } = await openThrough(server, relay);
  await moreFrames(page, "demo", 30);
  for (let round = 0; round < 3; round += 1) {
    blackout = true;
    await new Promise((resolve) => setTimeout(resolve, 700));
    blackout = false;
    await moreFrames(page, "demo", 30);
  }
  const video = await rtcStats(page, "demo", "inbound-rtp", "video");
  assert.ok(video.framesDecoded > 100);
  check();
  await close();
  relay.close();
  await server.stop();
});
