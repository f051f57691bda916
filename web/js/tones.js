// What a telephone sounds like, made here: no files, nothing to load. A page that nobody has touched yet may be kept
// silent by the browser; the dialog and the notification are there all the same.

/** Frequencies in Hz, seconds of sound, seconds until it is repeated; 0 for once. */
const TONES = /** @type {const} */ ({
  /** Somebody calls. */
  ring: { frequencies: [660, 880], on: 0.9, every: 2.4, warble: true },
  /** It rings at the other end. */
  ringback: { frequencies: [425], on: 1, every: 4, warble: false },
  busy: { frequencies: [425], on: 0.25, every: 0, warble: false },
  /** A call was accepted without a question, or somebody watches. */
  notice: { frequencies: [880, 1175], on: 0.35, every: 0, warble: true },
  /** A second call waits. */
  waiting: { frequencies: [740], on: 0.2, every: 5, warble: false },
});

/** @typedef {keyof typeof TONES} Tone */

/** @type {AudioContext | null} */
let context = null;

/**
 * Plays a tone until the function that is returned is called.
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
