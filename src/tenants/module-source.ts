/** Tenants selected by a module of the user, request by request. */
import { z } from "zod";
import type { Observe } from "../observability/observation.ts";
import { HostError, messageOf } from "../shared/kernel/errors.ts";
import { parseTenantId } from "../shared/kernel/ids.ts";
import { ConfigError } from "../validation/config-error.ts";
import { type Clock, KnownTenants } from "./record-cache.ts";
import type { RequestFacts } from "./router.ts";
import { type TenantSource, tenantClashes } from "./source.ts";
import type { Tenant, TenantDefaults } from "./tenant.ts";
import { parseLoneTenant } from "./token-conflicts.ts";

export interface ModuleSourceOptions {
  /** A file URL. */
  readonly url: string;
  readonly defaults: TenantDefaults;
  readonly observe: Observe;
  /** Maximum time for one call of the module. */
  readonly timeoutMs?: number;
  readonly clock?: Clock;
}

/** The module's exports, either named or together as the default export. */
interface TenantModule {
  resolve(facts: RequestFacts): unknown;
  list?(): unknown;
}

const iterable = z.custom<Iterable<unknown>>(
  (value) => typeof value === "object" && value !== null && Symbol.iterator in value,
);

/** Imports the module; throws `ConfigError` if that fails or there is no `resolve`. */
export async function openModuleSource(options: ModuleSourceOptions): Promise<TenantSource> {
  const { url, defaults, observe, timeoutMs = 5_000, clock = performance } = options;
  const module = await importModule(url);
  const known = new KnownTenants({ max: 10_000, maxAgeMs: 0, clock });

  const resolve = async (facts: RequestFacts): Promise<Tenant | null> => {
    // A copy: a module that set `path` to something other than a string would end the thread that receives
    // it.
    const value = await callWithin(timeoutMs, "resolve", () => module.resolve({ ...facts }));
    return value === null || value === undefined ? null : known.keep(parsed("resolve", value, defaults));
  };

  const warn = (path: string, message: string): void =>
    observe({ kind: "config.warning", path: `tenants.module list()${path}`, message });

  const list = async (): Promise<readonly Tenant[]> => {
    if (module.list === undefined) return [];
    const values = iterable.safeParse(await callWithin(timeoutMs, "list", () => module.list?.()));
    if (!values.success)
      throw new HostError("INTERNAL", "the tenant module's list() did not return an iterable");
    const tenants = [...values.data].map((value, index) => {
      try {
        return known.keep(parsed("list", value, defaults));
      } catch (error) {
        warn(`[${index}]`, messageOf(error));
        return null;
      }
    });
    const claims = tenants.map((tenant) => tenant ?? { id: undefined, hosts: [] });
    for (const { path, message } of tenantClashes(claims)) warn(path.replace("tenants", ""), message);
    return tenants.filter((tenant) => tenant !== null);
  };

  // `byId` and `byHost` do not serve requests, which `resolve` decides, but operators who name a tenant.
  return {
    byId: async (text) => {
      const id = parseTenantId(text);
      if (id === undefined) return null;
      if (module.list === undefined) return known.get(id) ?? null;
      return (await list()).find((tenant) => tenant.id === id) ?? null;
    },
    byHost: async (host) => {
      const [tenant, ...others] = (await list()).filter(({ hosts }) => hosts.includes(host));
      return others.some(({ id }) => id !== tenant?.id) ? null : (tenant ?? null);
    },
    resolve,
    // `resolve` is called for each request anyway.
    outdate: () => {},
    list,
    get known() {
      return known.size;
    },
    onChange: (listener) => known.onChange(listener),
    close: async () => {},
  };
}

async function importModule(url: string): Promise<TenantModule> {
  const fault = (message: string, cause?: unknown): ConfigError =>
    new ConfigError([{ path: "tenants.module", message: `${url}: ${message}` }], { cause });
  let namespace: { readonly default?: unknown };
  try {
    namespace = await import(url);
  } catch (error) {
    throw fault(messageOf(error), error);
  }
  if (isTenantModule(namespace)) return namespace;
  if (isTenantModule(namespace.default)) return namespace.default;
  throw fault("must export a function resolve (and, optionally, a function list)");
}

/** Checks the module itself, not a copy, because its functions may use `this`. */
function isTenantModule(value: unknown): value is TenantModule {
  if (typeof value !== "object" || value === null || !("resolve" in value)) return false;
  const list = "list" in value ? value.list : undefined;
  return typeof value.resolve === "function" && (list === undefined || typeof list === "function");
}

function parsed(from: string, value: unknown, defaults: TenantDefaults): Tenant {
  try {
    return parseLoneTenant(value, defaults);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    const message = `the tenant module's ${from}() returned an invalid tenant: ${error.message}`;
    throw new HostError("INTERNAL", message, { cause: error });
  }
}

/** What `work` returns; throws `INTERNAL` if it throws or takes longer than `ms`. */
async function callWithin(ms: number, name: string, work: () => unknown): Promise<unknown> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => {
    late.reject(new HostError("INTERNAL", `the tenant module's ${name}() took longer than ${ms} ms`));
  }, ms);
  try {
    return await Promise.race([Promise.resolve(work()), late.promise]);
  } catch (error) {
    if (error instanceof HostError) throw error;
    const message = `the tenant module's ${name}() threw: ${messageOf(error)}`;
    throw new HostError("INTERNAL", message, { cause: error });
  } finally {
    clearTimeout(timer);
  }
}
