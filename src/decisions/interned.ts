/**
 * Keeps one copy of a string that many records hold: 10,000 decisions on one blueprint would each bring their
 * own copy of its key and shape.
 */
import { LRUCache } from "lru-cache";

export class Interned<Text extends string> {
  readonly #texts: LRUCache<Text, Text>;

  /** Beyond `most` strings, the least recently used may come to exist twice. */
  constructor(most: number) {
    this.#texts = new LRUCache({ max: most });
  }

  /** Returns the first copy of `text`. */
  of(text: Text): Text {
    const first = this.#texts.get(text);
    if (first !== undefined) return first;
    this.#texts.set(text, text);
    return text;
  }
}
