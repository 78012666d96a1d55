/** Routes a request to its tenant: rules, tried in order. */
import { unreachable } from "../shared/kernel/errors.ts";
import { type MaybePromise, whenKnown } from "../shared/kernel/eventually.ts";
import { parseTenantId } from "../shared/kernel/ids.ts";
import { normaliseHost } from "./host-name.ts";
import type { Tenant } from "./tenant.ts";

/** The parts of a request that may select its tenant. */
export interface RequestFacts {
  readonly method: string;
  /** As in the request target: percent-encoded, without the query. */
  readonly path: string;
  /** Without the question mark. */
  readonly query: string;
  /** The Host header as received. */
  readonly host: string | null;
  /** Returns a header, case-insensitively; null if the request has none. */
  header(name: string): string | null;
  readonly remoteAddress: string | null;
}

export type RoutingRule =
  | { readonly kind: "host" }
  | { readonly kind: "header"; readonly name: string }
  /** One entry per segment of the prefix; null stands for the tenant id. */
  | { readonly kind: "path"; readonly segments: readonly (string | null)[] };

const headerName = /^[a-z0-9!#$%&'*+.^_`|~-]+$/;
const literalSegment = /^(?!\.{1,2}$)[A-Za-z0-9._~-]+$/;

/** Parses `host`, `header:NAME` or `path:/t/:tenant`; undefined if the text is no rule. */
export function parseRoutingRule(text: string): RoutingRule | undefined {
  if (text === "host") return { kind: "host" };
  if (text.startsWith("header:")) {
    const name = text.slice("header:".length).trim().toLowerCase();
    return headerName.test(name) ? { kind: "header", name } : undefined;
  }
  if (!text.startsWith("path:/")) return undefined;
  const segments = text
    .slice("path:/".length)
    .split("/")
    .map((segment) => (segment === ":tenant" ? null : segment));
  const literal = segments.every((segment) => segment === null || literalSegment.test(segment));
  const named = segments.filter((segment) => segment === null).length === 1;
  return literal && named ? { kind: "path", segments } : undefined;
}

export interface Routed {
  readonly tenant: Tenant;
  /** The request's path without the prefix that named the tenant; starts with a slash. */
  readonly path: string;
  /** The prefix that was removed, such as `/t/acme`; empty if there was none. */
  readonly basePath: string;
}

/** The part of a tenant source that routing needs. */
export interface TenantLookup {
  byId(id: string): MaybePromise<Tenant | null>;
  byHost(host: string): MaybePromise<Tenant | null>;
  readonly resolve: ((facts: RequestFacts) => Promise<Tenant | null>) | null;
}

export interface Router {
  /** The request's tenant, or null if no rule finds one; throws or rejects as the tenant source does. */
  route(facts: RequestFacts): MaybePromise<Routed | null>;
}

/**
 * Routes by `rules`. The first rule that applies wins: a host that belongs to a tenant, or a header or path
 * prefix that is present. A header or prefix that names no known tenant is an answer too (null): a request
 * that names its tenant is never routed to another one by a later rule. If the source has a `resolve` it
 * decides alone; path rules then only remove the prefix that names the tenant it chose.
 */
export function createRouter(rules: readonly RoutingRule[], source: TenantLookup): Router {
  const byResolve = async (
    facts: RequestFacts,
    resolve: NonNullable<TenantLookup["resolve"]>,
  ): Promise<Routed | null> => {
    const tenant = await resolve(facts);
    if (tenant === null) return null;
    const taken = rules
      .map((rule) => (rule.kind === "path" ? takePrefix(rule.segments, facts.path) : null))
      .find((each) => each?.id === tenant.id);
    return { tenant, path: taken?.path ?? facts.path, basePath: taken?.basePath ?? "" };
  };

  const byRules = (facts: RequestFacts, first = 0): MaybePromise<Routed | null> => {
    for (let at = first; ; at += 1) {
      const rule = rules[at];
      if (rule === undefined) return null;
      const named = nameIn(rule, facts);
      if (named === null) continue;
      const { path, basePath } = named;
      if (named.kind === "id") {
        const byId = parseTenantId(named.id) === undefined ? null : source.byId(named.id);
        return whenKnown(byId, (tenant) => (tenant === null ? null : { tenant, path, basePath }));
      }
      return whenKnown(source.byHost(named.host), (tenant) =>
        tenant === null ? byRules(facts, at + 1) : { tenant, path, basePath },
      );
    }
  };

  const { resolve } = source;
  return { route: (facts) => (resolve === null ? byRules(facts) : byResolve(facts, resolve)) };
}

type Named = { readonly path: string; readonly basePath: string } & (
  | { readonly kind: "host"; readonly host: string }
  | { readonly kind: "id"; readonly id: string }
);

/** The tenant name that `rule` reads from a request; null if the rule does not apply. */
function nameIn(rule: RoutingRule, facts: RequestFacts): Named | null {
  switch (rule.kind) {
    case "host": {
      const host = facts.host === null ? undefined : normaliseHost(facts.host);
      return host === undefined ? null : { kind: "host", host, path: facts.path, basePath: "" };
    }
    case "header": {
      const id = facts.header(rule.name);
      return id === null ? null : { kind: "id", id, path: facts.path, basePath: "" };
    }
    case "path": {
      const taken = takePrefix(rule.segments, facts.path);
      return taken === null ? null : { kind: "id", ...taken };
    }
    default:
      return unreachable(rule);
  }
}

/**
 * Splits a path at the prefix: `/t/acme/graphql` becomes tenant acme, `/graphql`, and base path `/t/acme`
 * (spelled as in the rule and the id, however the request encoded it). Null if the path does not start with
 * the prefix or a segment of it cannot be decoded. Each segment is decoded once, so an encoded slash never
 * creates another segment.
 */
function takePrefix(
  prefix: readonly (string | null)[],
  path: string,
): { id: string; path: string; basePath: string } | null {
  const segments = path.split("/").slice(1);
  if (!path.startsWith("/") || segments.length < prefix.length) return null;
  let id = "";
  for (const [index, expected] of prefix.entries()) {
    const segment = decodeSegment(segments[index] ?? "");
    if (segment === null || segment === "" || (expected !== null && segment !== expected)) return null;
    if (expected === null) id = segment;
  }
  return {
    id,
    path: `/${segments.slice(prefix.length).join("/")}`,
    basePath: prefix.map((segment) => `/${segment ?? id}`).join(""),
  };
}

function decodeSegment(segment: string): string | null {
  try {
    return decodeURIComponent(segment);
  } catch {
    return null;
  }
}
