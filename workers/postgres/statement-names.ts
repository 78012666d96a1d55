/** Replaces the schema names that an instance uses with the schemas that exist in PostgreSQL. */

import { QuoteUtils } from "@pgsql/quotes";
import { z } from "zod";
import { HostError } from "../../src/shared/kernel/errors.ts";
import type { BlueprintSpec } from "../../src/shared/model/blueprint-spec.ts";
import { LeftOutNames, leftOutSchema } from "./left-out.ts";
import { builtNames } from "./schema-placeholders.ts";
import type { Setting } from "./settings.ts";
import { afterComment } from "./statement-policy.ts";

/** What a build calls a schema, its name in PostgreSQL, and the names of its relations, types and functions. */
const namedObjects = z.array(z.tuple([z.string(), z.string(), z.array(z.string())]));

interface Place {
  /** Replaces the schema's name and its dot. */
  readonly prefix: string;
  readonly objects: ReadonlySet<string>;
  /** Names that no statement may have, each with the reason. */
  readonly refused: ReadonlyMap<string, string>;
}

const nothingRefused: ReadonlyMap<string, string> = new Map();

type Places = ReadonlyMap<string, Place>;

/**
 * Finds the names that a build gives to schemas in statements that plugins send: built from `extensions.pg.schemaName`, or
 * written by hand. Sent unchanged, such a name would find nothing, or another schema that happens to have it. A name is only
 * replaced before the name of an object of that schema; an alias or a word in a literal is left alone.
 */
export class StatementNames {
  readonly #spec: Pick<BlueprintSpec, "kind" | "schemas">;
  readonly #leftOut: LeftOutNames;
  /** The instance cannot be shared after all. */
  #refusal: HostError | null = null;
  #building = new Translation(new Map());
  #serving = new Translation(new Map());

  /** Settings that every request makes, so that its results contain the logical schema names. */
  readonly settings: Setting[] = [];

  constructor(spec: Pick<BlueprintSpec, "kind" | "schemas"> & Partial<BlueprintSpec>) {
    this.#spec = spec;
    this.#leftOut = new LeftOutNames(spec);
  }

  need(setting: Setting): void {
    if (!this.settings.some(([name]) => name === setting[0])) this.settings.push(setting);
  }

  /** Takes the names from the column `objectsColumn` of a scoped introspection. Throws `BUILD_FAILED` if it is malformed. */
  learn(answer: unknown): void {
    const parsed = namedObjects.safeParse(answer);
    if (!parsed.success) {
      throw new HostError("BUILD_FAILED", "the introspection result lacks the object names", {
        cause: parsed.error,
      });
    }
    const building = new Map<string, Place>();
    const serving = new Map<string, Place>();
    const logical = builtNames(this.#spec);
    const real = new Set(parsed.data.map(([, physical]) => physical));
    for (const [called, physical, names] of parsed.data) {
      const objects = new Set(names);
      const qualified = {
        prefix: `${QuoteUtils.quoteIdentifier(physical)}.`,
        objects,
        refused: nothingRefused,
      };
      if (called !== physical) building.set(called, qualified);
      if (this.#spec.kind === "pooled") {
        // Also where the names are alike: they are so for one tenant of many.
        const refused = this.#leftOut.in(called);
        if (logical.includes(called)) serving.set(called, { prefix: "", objects, refused });
        else if (called !== physical) serving.set(called, qualified);
      } else if (called !== physical && !real.has(called)) {
        // If another schema has that name, PostGraphile's own statements use it and mean that schema.
        serving.set(called, qualified);
      }
    }
    const refused = this.#leftOut.all;
    if (refused.size > 0) serving.set(leftOutSchema, { prefix: "", objects: new Set(), refused });
    this.#building = new Translation(building);
    this.#serving = new Translation(serving);
  }

  /** Translates `text` as it is sent during a build. */
  inBuild(text: string): string {
    return this.#building.of(text);
  }

  /**
   * `text` as a request may send it. Throws `BUILD_NOT_SHAREABLE` where it names what the instance leaves out, and from then on whatever
   * is sent: a request that has committed something by then cannot tell the host.
   */
  inRequest(text: string): string {
    if (this.#refusal !== null) throw this.#refusal;
    try {
      return this.#serving.of(text);
    } catch (error) {
      if (error instanceof HostError) this.#refusal = error;
      throw error;
    }
  }
}

/** Few texts name a schema, so each translation is kept. */
const maxTexts = 200;

class Translation {
  readonly #places: Places;
  /**
   * A text that names a schema contains one of these. PostGraphile's own statements name no served schema, and contain none of
   * them.
   */
  readonly #marks: readonly string[];
  readonly #known = new Map<string, string>();

  constructor(places: Places) {
    this.#places = places;
    this.#marks = [...places.keys()].flatMap((name) => [`${name}.`, `${name.replaceAll('"', '""')}".`]);
  }

  of(text: string): string {
    for (const mark of this.#marks) {
      if (text.includes(mark)) return this.#found(text);
    }
    return text;
  }

  #found(text: string): string {
    const known = this.#known.get(text);
    if (known !== undefined) return known;
    const made = translated(text, this.#places);
    if (this.#known.size >= maxTexts) this.#known.clear();
    this.#known.set(text, made);
    return made;
  }
}

interface Identifier {
  /** The name as PostgreSQL interprets it. */
  readonly name: string;
  /** Whether it is written exactly so; PostgreSQL folds an unquoted name to lower case. */
  readonly exact: boolean;
  readonly end: number;
}

function translated(text: string, places: Places): string {
  let out = "";
  let copied = 0;
  for (let at = 0; at < text.length; ) {
    const skipped = afterLiteral(text, at);
    if (skipped > at) {
      at = skipped;
      continue;
    }
    const first = identifierAt(text, at);
    if (first === null) {
      at += 1;
      continue;
    }
    const second = text[first.end] === "." ? identifierAt(text, first.end + 1) : null;
    const place = first.exact ? places.get(first.name) : undefined;
    const reason = second === null ? undefined : place?.refused.get(second.name);
    if (reason !== undefined) {
      throw new HostError(
        "BUILD_NOT_SHAREABLE",
        `${reason}; a plugin's SQL names it, although the API does not`,
      );
    }
    if (place !== undefined && second !== null && place.objects.has(second.name)) {
      out += text.slice(copied, at) + place.prefix;
      copied = first.end + 1;
    }
    at = afterChain(text, first.end);
  }
  return out + text.slice(copied);
}

/** The end of the dotted name that continues at `from`: what follows a dot is no schema. */
function afterChain(text: string, from: number): number {
  let at = from;
  while (text[at] === ".") {
    const next = identifierAt(text, at + 1);
    if (next === null) return at + 1;
    at = next.end;
  }
  return at;
}

const bare = /[a-z_\u0080-\uffff][\w$\u0080-\uffff]*/iy;

/** The SQL name that begins at `at`, or null. */
export function identifierAt(text: string, at: number): Identifier | null {
  if (text[at] === '"') {
    const end = afterQuote(text, at, '"');
    return { name: text.slice(at + 1, end - 1).replaceAll('""', '"'), exact: true, end };
  }
  bare.lastIndex = at;
  const [written] = bare.exec(text) ?? [];
  if (written === undefined) return null;
  const name = written.toLowerCase();
  return { name, exact: name === written, end: at + written.length };
}

/** The end of the comment or literal that begins at `at`, or `at` if there is none. */
function afterLiteral(text: string, at: number): number {
  const behind = afterComment(text, at);
  if (behind > at) return behind;
  const two = text.slice(at, at + 2);
  if (two[0] === "'") return afterQuote(text, at, "'");
  if (two === "e'" || two === "E'") return afterEscaped(text, at + 1);
  if (two[0] === "$") return afterDollars(text, at);
  return at;
}

/** The index after the quote that closes the one at `from`. */
function afterQuote(text: string, from: number, quote: string): number {
  for (let at = text.indexOf(quote, from + 1); at !== -1; at = text.indexOf(quote, at + 2)) {
    if (text[at + 1] !== quote) return at + 1;
  }
  return text.length;
}

function afterEscaped(text: string, from: number): number {
  for (let at = from + 1; at < text.length; at += 1) {
    if (text[at] === "\\") at += 1;
    else if (text[at] === "'" && text[at + 1] === "'") at += 1;
    else if (text[at] === "'") return at + 1;
  }
  return text.length;
}

const dollars = /\$(?:[a-z_\u0080-\uffff][\w\u0080-\uffff]*)?\$/iy;

function afterDollars(text: string, from: number): number {
  dollars.lastIndex = from;
  const [tag] = dollars.exec(text) ?? [];
  // A parameter, such as $1.
  if (tag === undefined) return from;
  const end = text.indexOf(tag, from + tag.length);
  return end === -1 ? text.length : end + tag.length;
}
