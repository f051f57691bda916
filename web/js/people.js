// Presence: the people this user may see, as reported by the server.

/**
 * @typedef {object} Person
 * @property {string} name
 * @property {string} display
 * @property {string} role
 * @property {string[]} groups
 * @property {"offline" | "free" | "in_call"} state
 * @property {boolean} dnd
 * @property {string[]} devices
 * @property {boolean} may_call
 * @property {boolean} may_watch
 */

export class People {
  /** @param {string} me the user's own login name: the server's list includes them */
  constructor(me) {
    this.me = me.toLowerCase();
    /** By login name in lower case. @type {Map<string, Person>} */
    this.all = new Map();
    /** The people from the parts received so far. @type {Map<string, Person>} */
    this.coming = new Map();
    /** Whether the complete list has been received. */
    this.known = false;
  }

  /**
   * Replaces the list, which arrives in parts.
   * @param {{ part: number, parts: number, people: Person[] }} told
   */
  set({ part, parts, people }) {
    if (part === 0) this.coming = new Map();
    this.#put(this.coming, people);
    if (part < parts - 1) return;
    // Only once it is complete: nobody may appear to be gone in between.
    this.all = this.coming;
    this.known = true;
  }

  /** @param {Person[]} people */
  update(people) {
    this.#put(this.all, people);
    this.#put(this.coming, people);
  }

  /**
   * @param {Map<string, Person>} into
   * @param {Person[]} people
   */
  #put(into, people) {
    for (const person of people) {
      const name = person.name.toLowerCase();
      if (name !== this.me) into.set(name, person);
    }
  }

  /** @param {string} name */
  get(name) {
    return this.all.get(name.toLowerCase());
  }

  /** A person's display name. @param {string} name */
  display(name) {
    return this.get(name)?.display ?? name;
  }

  /**
   * People who are online first, then by name.
   * @param {string[]} [held] names whose order is kept; others follow
   */
  sorted(held = []) {
    const places = new Map(held.map((name, place) => [name, place]));
    const place = (/** @type {Person} */ person) => places.get(person.name) ?? held.length;
    const rank = (/** @type {Person} */ person) => (person.state === "offline" ? 1 : 0);
    return [...this.all.values()].sort((a, b) => place(a) - place(b) || rank(a) - rank(b) || a.display.localeCompare(b.display));
  }
}
