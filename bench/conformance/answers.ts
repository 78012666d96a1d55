/** Makes the answers to a document comparable. */
import { decodeJwt } from "jose";
import { z } from "zod";

const error = z.object({
  message: z.string(),
  path: z.array(z.union([z.string(), z.number()])).nullish(),
});

const payload = z.looseObject({
  data: z.unknown().optional(),
  errors: z.array(error).optional(),
  path: z.array(z.union([z.string(), z.number()])).optional(),
  items: z.array(z.unknown()).optional(),
});

/** The payloads of one answer: a single one, or those of a stream. */
export type Payloads = readonly unknown[];

/** The same text for equal answers: parts that a stream delivers late are merged in, and values that differ in every run are masked. */
export function comparable(payloads: Payloads, masks: readonly string[]): string {
  const errors: z.infer<typeof error>[] = [];
  let data: unknown;
  for (const each of payloads) {
    const { data: part, errors: failed = [], path, items } = payload.parse(each);
    errors.push(...failed);
    if (path === undefined) data = part ?? data;
    else data = merged(data, path, items ?? [part], items !== undefined);
  }
  for (const mask of masks) data = masked(data, mask.split("."));
  const plain = errors.map(({ message, path = [] }) => ({ path, message }));
  plain.sort((one, other) => (JSON.stringify(one) < JSON.stringify(other) ? -1 : 1));
  return JSON.stringify(steady({ data: data ?? null, errors: plain }, new Map()), null, 1);
}

/** `data` with `parts` inserted at `path`; for a list, the path ends with the index of the first part. */
function merged(
  data: unknown,
  path: readonly (string | number)[],
  parts: readonly unknown[],
  isList: boolean,
): unknown {
  const [key, ...rest] = path;
  if (key === undefined) return { ...Object(data), ...Object(parts[0]) };
  const copy: Record<string | number, unknown> | unknown[] = Array.isArray(data)
    ? [...data]
    : { ...Object(data) };
  if (rest.length === 0 && isList) {
    for (const [index, part] of parts.entries()) Reflect.set(copy, Number(key) + index, part);
  } else Reflect.set(copy, key, merged(Reflect.get(copy, key), rest, parts, isList));
  return copy;
}

function masked(data: unknown, path: readonly string[]): unknown {
  const [key, ...rest] = path;
  if (key === undefined) return data === null || data === undefined ? data : "<masked>";
  if (typeof data !== "object" || data === null) return data;
  return { ...data, [key]: masked(Reflect.get(data, key), rest) };
}

const uuid = /^[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}$/i;
const time = /^\d{4}-\d\d-\d\d[T ]\d\d:\d\d/;

/** Masks what no two runs have in common: random identifiers, the time of day, signatures. */
function steady(value: unknown, uuids: Map<string, number>): unknown {
  if (Array.isArray(value)) return value.map((each) => steady(each, uuids));
  if (typeof value === "object" && value !== null) {
    return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, steady(each, uuids)]));
  }
  if (typeof value !== "string") return value;
  if (uuid.test(value) && !value.includes("-0000-0000-")) {
    const known = uuids.get(value) ?? uuids.size + 1;
    uuids.set(value, known);
    return `<uuid ${known}>`;
  }
  if (time.test(value) && Math.abs(Date.parse(value) - Date.now()) < 86_400_000) return "<now>";
  return value.split(".").length === 3 && value.startsWith("eyJ") ? claimsOf(value) : value;
}

/** The claims that the database returned, without those that the signer adds. */
function claimsOf(token: string): unknown {
  try {
    const { iat: _at, iss: _by, aud: _for, "rowhouse:tenant": _tenant, ...claims } = decodeJwt(token);
    return Object.fromEntries(Object.entries(claims).toSorted());
  } catch {
    return token;
  }
}

/** The first line in which two comparable answers differ, and the first error that only `found` has. */
export function firstDifference(expected: string, found: string): string {
  const [wanted, lines] = [expected.split("\n"), found.split("\n")];
  const index = wanted.findIndex((line, at) => line !== lines[at]);
  const error = lines.find((line) => line.includes('"message":') && !wanted.includes(line));
  const shown = `${wanted[index]?.trim() ?? "nothing"} | ${lines[index]?.trim() ?? "nothing"}`;
  return error === undefined ? shown : `${shown}; ${error.trim()}`;
}
