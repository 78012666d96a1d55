/** Loads PostGraphile's transliteration dictionary only for the first name that needs it. */
import { createRequire, Module } from "node:module";

/** Text that transliteration 2.6 returns unchanged, unless it is configured otherwise. */
const plain = /^[\x20-\x7e]*$/;

/**
 * graphile-build 5.1 loads `transliteration` to spell names in ASCII, which most are already: 2.3 MB of each thread. Until
 * there is another name, or anybody wants anything else of it, a stand-in answers for it in CommonJS's cache of modules. To be
 * called before anything of PostGraphile is loaded. Returns false, and does nothing, where PostGraphile has no such module.
 */
export function deferTransliteration(from: string = import.meta.url): boolean {
  const load = createRequire(from);
  let path: string;
  try {
    const graphileBuild = createRequire(load.resolve("postgraphile")).resolve("graphile-build");
    path = createRequire(graphileBuild).resolve("transliteration");
  } catch {
    return false;
  }
  if (load.cache[path] !== undefined) return true;
  const standIn = new Module(path);
  let real: object | undefined;
  const dictionary = (): object => {
    if (real === undefined) {
      delete load.cache[path];
      const loaded: unknown = load(path);
      real = typeof loaded === "object" && loaded !== null ? loaded : {};
    }
    return real;
  };
  const transliterate = new Proxy(() => undefined, {
    apply(_, self, args: unknown[]) {
      const [text] = args;
      const asItIs = real === undefined && args.length === 1 && typeof text === "string" && plain.test(text);
      return asItIs ? text : Reflect.apply(Reflect.get(dictionary(), "transliterate"), self, args);
    },
    get: (_, name) => Reflect.get(Reflect.get(dictionary(), "transliterate"), name),
  });
  standIn.exports = new Proxy(
    {},
    {
      get: (_, name) => (name === "transliterate" ? transliterate : Reflect.get(dictionary(), name)),
      has: (_, name) => Reflect.has(dictionary(), name),
      ownKeys: () => Reflect.ownKeys(dictionary()),
      // `import` asks for this for each name that it exports from a CommonJS module.
      getOwnPropertyDescriptor: (_, name) =>
        name === "transliterate"
          ? { value: transliterate, enumerable: true, configurable: true }
          : configurable(Reflect.getOwnPropertyDescriptor(dictionary(), name)),
    },
  );
  standIn.loaded = true;
  load.cache[path] = standIn;
  return true;
}

/** A proxy may not report a property as non-configurable that its target lacks. */
function configurable(descriptor: PropertyDescriptor | undefined): PropertyDescriptor | undefined {
  return descriptor === undefined ? undefined : { ...descriptor, configurable: true };
}
