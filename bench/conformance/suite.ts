/** Reads PostGraphile's own documents: `*.test.graphql`, with directives in comments at their heads. */
import { createHash } from "node:crypto";
import { glob, mkdir, readFile, writeFile } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import JSON5 from "json5";
import { z } from "zod";

const schemas = z.union([z.string(), z.array(z.string())]);

/** A document's directives; keys not listed here are options of the V4 preset. */
const directives = z.looseObject({
  schema: schemas.optional(),
  extends: schemas.optional(),
  variableValues: z.record(z.string(), z.unknown()).optional(),
  graphileBuildOptions: z.record(z.string(), z.unknown()).optional(),
  ignoreRBAC: z.boolean().optional(),
  jwtSecret: z.boolean().optional(),
  setupSql: z.string().optional(),
  cleanupSql: z.string().optional(),
  search_path: z.string().optional(),
  pgIdentifiers: z.enum(["qualified", "unqualified"]).optional(),
  mask: schemas.optional(),
});

export interface Document {
  /** For example `queries/v4/connections`. */
  readonly name: string;
  readonly source: string;
  readonly directives: z.infer<typeof directives>;
  /** The options of its preset; documents with equal options and schemas share an instance. */
  readonly options: PresetOptions;
  readonly schemas: readonly string[];
  /** Whether a callback in the document takes part while it runs, as for subscriptions. */
  readonly scripted: boolean;
  readonly mutates: boolean;
}

/** Passed to a cell as JSON in a tenant's setting. */
export interface PresetOptions {
  /** Preset modules to extend, with the name of each one's export. */
  readonly extends: readonly (readonly [module: string, name: string])[];
  readonly v4: boolean;
  readonly directives: Readonly<Record<string, unknown>>;
}

const copies = new URL("../out/conformance/", import.meta.url);

/** Every document of the suite below `directory` that has an operation, which those of `schema/` have not. */
export async function documentsIn(directory: string): Promise<Document[]> {
  const names: string[] = [];
  for await (const name of glob("{queries,mutations,subscriptions}/**/*.test.graphql", { cwd: directory }))
    names.push(name);
  return Promise.all(names.toSorted().map((name) => documentAt(directory, name)));
}

async function documentAt(directory: string, file: string): Promise<Document> {
  const path = join(directory, file);
  const found: Record<string, unknown> = {};
  const lines: string[] = [];
  let scripted = false;
  for (const line of (await readFile(path, "utf8")).split("\n")) {
    if (line.startsWith("#>")) {
      const colon = line.indexOf(":");
      found[line.slice(2, colon).trim()] = JSON5.parse(line.slice(colon + 1));
    } else if (line.startsWith("#!")) scripted = true;
    else if (!line.startsWith("##")) lines.push(line);
  }
  const parsed = directives.parse(found);
  const { schema = ["a", "b", "c"] } = parsed;
  const source = lines.join("\n");
  return {
    name: file.replace(/\.test\.graphql$/, ""),
    source,
    directives: parsed,
    options: await optionsOf(path, parsed),
    schemas: [schema].flat(),
    scripted,
    mutates: /^\s*mutation\b/m.test(source) || parsed.setupSql !== undefined,
  };
}

/** The options of the preset, without those that only affect a document's run. */
async function optionsOf(path: string, parsed: z.infer<typeof directives>): Promise<PresetOptions> {
  const {
    extends: extended = [],
    variableValues: _values,
    setupSql: _setup,
    cleanupSql: _cleanup,
    mask: _mask,
    schema: _schema,
    ...rest
  } = parsed;
  return {
    extends: await Promise.all([extended].flat().map((each) => moduleOf(path, each))),
    v4: /\/(?:v4|polymorphic|relay)\b/.test(path),
    directives: rest,
  };
}

/** Copies a module beside a document to where its imports can be resolved. */
async function moduleOf(path: string, written: string): Promise<[module: string, name: string]> {
  const [module = "", name = "default"] = written.split(":");
  if (!module.startsWith(".")) return [module, name];
  const text = await readFile(resolve(dirname(path), module), "utf8");
  const digest = createHash("sha256").update(text).digest("hex").slice(0, 12);
  await mkdir(copies, { recursive: true });
  const copy = new URL(`${digest}-${basename(module)}`, copies);
  await writeFile(copy, text);
  return [pathToFileURL(fileURLToPath(copy)).href, name];
}
