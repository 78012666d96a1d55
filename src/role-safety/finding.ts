/** What can be wrong with roles and schemas: a code for each, and what people are told about it. */
import { z } from "zod";
import { HostError } from "../shared/kernel/errors.ts";

/** What a finding is about; null where its code has no such part. */
export interface FindingParts {
  /** The role, quoted as in SQL. */
  readonly role: string | null;
  /** The role that `role` may become and by which it may do this; null: by itself. */
  readonly through: string | null;
  /** The schema, function, role or number of objects at stake, quoted as in SQL. */
  readonly object: string | null;
  /** By what means, or whose it is. */
  readonly detail: string | null;
}

const who = ({ role, through }: FindingParts): string =>
  through === null ? `role ${role}` : `role ${role} (through ${through})`;
const itself = ({ role }: FindingParts): string => `the connecting role ${role}`;

const noPolicy = "policies do not restrict it";
const nothingStops = "privileges and policies do not restrict it";
const anyFunction = "a function of any tenant could switch to it";
const anySql = "it could place arbitrary SQL there";
const unprotected = "row-level security does not apply to it there";

/** By code, in the order in which findings are listed; docs/operations.md has them all. */
const texts = {
  // The connecting role, for all tenants of a database.
  CONNECTING_SUPERUSER: (its) => `${itself(its)} is a superuser: ${nothingStops}`,
  CONNECTING_BYPASSRLS: (its) => `${itself(its)} has BYPASSRLS: ${noPolicy}`,
  CONNECTING_MAY_BE_SUPERUSER: (its) =>
    `${itself(its)} is a member of ${its.object}, a superuser: ${anyFunction}`,
  CONNECTING_MAY_BYPASS: (its) =>
    `${itself(its)} is a member of ${its.object}, which has BYPASSRLS: ${anyFunction}`,
  CONNECTING_PREDEFINED: (its) => `${itself(its)} is a member of ${its.object}: ${anyFunction}`,
  // A shared schema, for all tenants that use it.
  SHARED_CREATE_PUBLIC: ({ object }) =>
    `everyone may create objects in the shared schema ${object}: revoke create on it from public`,
  SHARED_CREATE_CONNECTING: (its) => `${itself(its)} may create objects in the shared schema ${its.object}`,
  SHARED_DEFINER_PATH: (its) => `${definer(its)}: set one, because tenants share its schema`,
  // A tenant's roles and schemas.
  ROLE_SUPERUSER: (its) => `${who(its)} is a superuser: ${nothingStops}`,
  ROLE_BYPASSRLS: (its) => `${who(its)} has BYPASSRLS: ${noPolicy}`,
  ROLE_PREDEFINED: (its) =>
    `${who(its)} may become ${its.object}, and so read, change or end what belongs to other tenants`,
  ROLE_OWNS_TABLES: (its) => `${who(its)} owns ${its.object} of the tenant's tables: ${unprotected}`,
  ROLE_OWNS_SQL: (its) =>
    `${who(its)} owns ${its.object} of the tenant's views, functions or tables: ${anySql}`,
  ROLE_CREATE: (its) => `${who(its)} may create objects in the tenant's schema ${its.object}: ${anySql}`,
  CONNECTING_OWNS_TABLES: (its) => `${itself(its)} owns ${its.object} of the tenant's tables: ${unprotected}`,
  ROLE_CREATE_SHARED: (its) => `${who(its)} may create objects in the shared schema ${its.object}`,
  USAGE_PUBLIC: ({ object }) => `everyone may use the schema ${object} (USAGE granted to PUBLIC)`,
  CREATE_PUBLIC: ({ object }) =>
    `everyone may create objects in the schema ${object} (CREATE granted to PUBLIC)`,
  DEFINER_PATH: (its) => definer(its),
  ROLE_READS_TENANTS: (its) => `${who(its)} may read ${its.object}, which holds the secrets of all tenants`,
  ROLE_WRITES_CONTROL: (its) => `${who(its)} may write control tables shared by all tenants: ${its.object}`,
  SESSION_SUPERUSER: ({ role }) => `the session function is called as ${role}, a superuser: ${nothingStops}`,
  FOREIGN_SCHEMA: ({ object, detail }) => `its roles may use the schema ${object} of tenant ${detail}`,
  // SQL in its schemas, or in those that tenants share.
  REACHING_SQL: ({ object, detail }) => `${object} could reach beyond its tenant through ${detail}`,
  /** In place of those that are left out of a long list. */
  MORE: ({ object }) => `and ${object} more of this kind`,
} satisfies Readonly<Record<string, (its: FindingParts) => string>>;

function definer({ object }: FindingParts): string {
  return `function ${object} is SECURITY DEFINER without a search_path of its own`;
}

export type FindingCode = keyof typeof texts;

/** One thing that is wrong. */
export interface Finding extends FindingParts {
  readonly code: FindingCode;
}

export const findingCodes = Object.freeze(
  Object.keys(texts).filter((code): code is FindingCode => code in texts),
);

/** A finding of which only some parts are given. */
export function finding(code: FindingCode, parts: Partial<FindingParts>): Finding {
  return { code, role: null, through: null, object: null, detail: null, ...parts };
}

/** What people are told about a finding: one sentence without a full stop. */
export const findingText = (its: Finding): string => texts[its.code](its);

export const findingTexts = (findings: readonly Finding[]): string[] => findings.map(findingText);

/** The codes of `findings`, each once, without `MORE`. */
export const codesOf = (findings: readonly Finding[]): FindingCode[] => [
  ...new Set(findings.map(({ code }) => code).filter((code) => code !== "MORE")),
];

const rank = new Map(findingCodes.map((code, index) => [code, index]));

/** By code, then as text. */
function inOrder(findings: readonly Finding[]): Finding[] {
  const keyed = findings.map((each) => ({ each, at: rank.get(each.code) ?? 0, text: findingText(each) }));
  keyed.sort((a, b) => a.at - b.at || (a.text < b.text ? -1 : 1));
  return keyed.map(({ each }) => each);
}

const part = z
  .string()
  .nullish()
  .transform((value) => value ?? null);

/** Findings as the queries for them return them, in any order. */
export const findingRows = z
  .array(z.object({ code: z.enum(findingCodes), role: part, through: part, object: part, detail: part }))
  .transform(inOrder);

/** Parses what such a query returned; throws `INTERNAL` for anything else. */
export function answered<Value>(schema: z.ZodType<Value>, answer: unknown): Value {
  const parsed = schema.safeParse(answer);
  if (parsed.success) return parsed.data;
  throw new HostError("INTERNAL", "the query for role safety returned an unexpected result", {
    cause: parsed.error,
  });
}

const maxNamed = 5;

/**
 * The first few of `findings`. Every decision keeps its findings: among 2,000 tenants without roles of their own, each
 * may use the schemas of all others, which would be four million of them.
 */
export function brief(findings: readonly Finding[]): readonly Finding[] {
  if (findings.length <= maxNamed) return findings;
  return [...findings.slice(0, maxNamed), finding("MORE", { object: String(findings.length - maxNamed) })];
}
