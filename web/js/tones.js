// Call tones, synthesized here, so that there are no files to load. The browser may mute a page before the first user
// interaction; the dialog and the notification are shown anyway.

/** Frequencies in Hz, duration in seconds, and interval between repetitions in seconds, 0 to play once. */
const TONES = /** @type {const} */ ({
  /** An incoming call. */
  ring: { frequencies: [660, 880], on: 0.9, every: 2.4, warble: true },
  /** The other side is ringing. */
  ringback: { frequencies: [425], on: 1, every: 4, warble: false },
  busy: { frequencies: [425], on: 0.25, every: 0, warble: false },
  /** A call was accepted automatically, or somebody asks to watch or is watching. */
  notice: { frequencies: [880, 1175], on: 0.35, every: 0, warble: true },
  /** A second call is waiting. */
  waiting: { frequencies: [740], on: 0.2, every: 5, warble: false },
});

/** @typedef {keyof typeof TONES} Tone */

/** @type {AudioContext | null} */
let context = null;

/**
 * Plays a tone until the returned function is called.
 * @param {Tone} name
 */
export function play(name) {
  const tone = TONES[name];
  try {
    context ??= new AudioContext();
    context.resume().catch(() => {});
  } catch {
    return () => {};
  }
  const sound = context;
  const once = () => {
    if (sound.state !== "running") return;
    const [first, second = first] = tone.frequencies;
    const oscillator = sound.createOscillator();
    const volume = sound.createGain();
    const [start, end] = [sound.currentTime, sound.currentTime + tone.on];
    oscillator.frequency.setValueAtTime(first, start);
    if (tone.warble) {
      for (let at = start, high = true; at < end; at += 0.12, high = !high) {
        oscillator.frequency.setValueAtTime(high ? second : first, at);
      }
    }
    volume.gain.setValueAtTime(0, start);
    volume.gain.linearRampToValueAtTime(0.12, start + 0.02);
    volume.gain.setValueAtTime(0.12, end - 0.04);
    volume.gain.linearRampToValueAtTime(0, end);
    oscillator.connect(volume).connect(sound.destination);
    oscillator.start(start);
    oscillator.stop(end);
  };
  once();
  if (tone.every === 0) return () => {};
  const timer = setInterval(once, tone.every * 1000);
  return () => clearInterval(timer);
}
