/** The package's main export: types for `rowhouse.config.ts`. */
import type { ConfigInput } from "./schema.ts";

export type { RequestFacts } from "../tenants/router.ts";
export type { TenantInput } from "../tenants/tenant.ts";
export type { ConfigInput };

/** Returns `config` unchanged; TypeScript checks it as it is written. */
export function defineConfig(config: ConfigInput): ConfigInput {
  return config;
}
