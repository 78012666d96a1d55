/** Replaces `execute`, the method in which Grafast's steps do their work, for a whole class of steps. */

export type Execute<Details> = (details: Details) => unknown;

/** Prototypes that were already handled. */
const seen = new WeakSet<object>();

function isExecute<Details>(value: unknown): value is Execute<Details> {
  return typeof value === "function" && value.length === 1;
}

/** Puts what `make` makes of it in the place of the class's own `execute`, once; returns false where that is not the known one. */
export function replaceExecute<Details>(
  prototype: object,
  make: (original: Execute<Details>) => (this: object, details: Details) => unknown,
): boolean {
  if (seen.has(prototype)) return true;
  const original: unknown = Reflect.get(prototype, "execute");
  if (!isExecute<Details>(original)) return false;
  seen.add(prototype);
  Object.defineProperty(prototype, "execute", {
    value: make(original),
    writable: true,
    configurable: true,
  });
  return true;
}
