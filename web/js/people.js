// The people whom one may see, as the server tells of them.

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
  /** @param {string} me one's own login name: the server tells of oneself, too */
  constructor(me) {
    this.me = me.toLowerCase();
    /** By login name in lower case. @type {Map<string, Person>} */
    this.all = new Map();
    /** Whether they are known yet. */
    this.known = false;
  }

  /** @param {Person[]} people */
  set(people) {
    this.all.clear();
    this.update(people);
    this.known = true;
  }

  /** @param {Person[]} people */
  update(people) {
    for (const person of people) {
      const name = person.name.toLowerCase();
      if (name !== this.me) this.all.set(name, person);
    }
  }

  /** @param {string} name */
  get(name) {
    return this.all.get(name.toLowerCase());
  }

  /** A person's name for people. @param {string} name */
  display(name) {
    return this.get(name)?.display ?? name;
  }

  /** Those who are there first, then by name. */
  sorted() {
    const rank = (/** @type {Person} */ person) => (person.state === "offline" ? 1 : 0);
    return [...this.all.values()].sort((a, b) => rank(a) - rank(b) || a.display.localeCompare(b.display));
  }
}
