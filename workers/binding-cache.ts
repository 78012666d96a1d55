/** The tenants' bindings that requests have come with. */
import { LRUCache } from "lru-cache";
import type { TenantBinding } from "../src/shared/protocol/messages.ts";

/** A text and what it says are about 1 KB. */
const maxBindings = 1_000;

export class Bindings {
  readonly #known = new LRUCache<string, TenantBinding>({ max: maxBindings });

  /**
   * What `text`, which the front wrote, says: the same object for the same text, as long as it is kept, and frozen, as plugins are given
   * it: what one of them changed would be every later request's path, roles or revisions.
   */
  read(text: string): TenantBinding {
    const known = this.#known.get(text);
    if (known !== undefined) return known;
    const binding: TenantBinding = JSON.parse(text, (_, value: unknown) => Object.freeze(value));
    this.#known.set(text, binding);
    return binding;
  }
}
