/** Branded identifiers. They are made only here, so that a plain string never passes for one. */
import { HostError } from "./errors.ts";

declare const brand: unique symbol;
type Brand<Name extends string> = string & { readonly [brand]: Name };

export type TenantId = Brand<"TenantId">;
/** A sha256, in hex, of a tenant's canonical shape. */
export type ShapeHash = Brand<"ShapeHash">;
/** `bp:<sha256>` for a pooled instance, `tn:<tenant>:<sha256>` for a dedicated one. */
export type InstanceKey = Brand<"InstanceKey">;
export type CellId = Brand<"CellId">;

const tenantPattern = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;

/** The tenant id in `text`, or undefined if it is not one: 1–63 letters, digits, dots, hyphens, underscores. */
export function parseTenantId(text: string): TenantId | undefined {
  return tenantPattern.test(text) ? (text as TenantId) : undefined;
}

/** The tenant id in `text`; throws `CONFIG_INVALID` if it is not one. */
export function tenantId(text: string): TenantId {
  const id = parseTenantId(text);
  if (id === undefined) {
    throw new HostError("CONFIG_INVALID", `not a tenant id: ${JSON.stringify(text.slice(0, 80))}`);
  }
  return id;
}

const sha256Pattern = /^[0-9a-f]{64}$/;

/** The shape hash in `text`, or undefined if it is not 64 hexadecimal digits. */
export function parseShapeHash(text: string): ShapeHash | undefined {
  return sha256Pattern.test(text) ? (text as ShapeHash) : undefined;
}

/** The shape hash in `text`; throws `INTERNAL` if it is not one. */
export function shapeHash(text: string): ShapeHash {
  const hash = parseShapeHash(text);
  if (hash === undefined) throw new HostError("INTERNAL", "not a shape hash");
  return hash;
}

export function pooledKey(sha256: string): InstanceKey {
  return `bp:${shapeHash(sha256)}` as InstanceKey;
}

/**
 * The key of a tenant's dedicated instance; `sha256` covers its shape and everything else that affects the
 * build.
 */
export function dedicatedKey(tenant: TenantId, sha256: string): InstanceKey {
  return `tn:${tenant}:${shapeHash(sha256)}` as InstanceKey;
}

export function cellId(ordinal: number): CellId {
  return `c${ordinal}` as CellId;
}
