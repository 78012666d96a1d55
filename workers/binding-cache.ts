/** Parses the tenants' bindings that requests carry, and caches them. */
import { LRUCache } from "lru-cache";
import type { TenantBinding } from "../src/shared/model/tenant-binding.ts";

/** A text and its parsed value take about 1 KB. */
const maxBindings = 1_000;

export class Bindings {
  readonly #known = new LRUCache<string, TenantBinding>({ max: maxBindings });

  /**
   * Parses `text`, which the front wrote. Returns the same object for the same text while it is cached. It is frozen, because
   * plugins receive it, and a change would affect the path, roles or revisions of every later request.
   */
  read(text: string): TenantBinding {
    const known = this.#known.get(text);
    if (known !== undefined) return known;
    const binding: TenantBinding = JSON.parse(text, (_, value: unknown) => Object.freeze(value));
    this.#known.set(text, binding);
    return binding;
  }
}
