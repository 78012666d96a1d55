/** One copy of a text that many records hold: of 10,000 decisions on one blueprint each brings its key and shape anew. */
import { LRUCache } from "lru-cache";

export class Interned<Text extends string> {
  readonly #texts: LRUCache<Text, Text>;

  /** Beyond `most` texts the one used least recently may come to have two copies. */
  constructor(most: number) {
    this.#texts = new LRUCache({ max: most });
  }

  /** The copy of `text` that was seen first. */
  of(text: Text): Text {
    const first = this.#texts.get(text);
    if (first !== undefined) return first;
    this.#texts.set(text, text);
    return text;
  }
}
