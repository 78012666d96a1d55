/** The package's main export: types for `rowhouse.config.ts`. */
import type { ConfigInput } from "./schema.ts";

export type { RequestFacts } from "../tenants/router.ts";
export type { TenantInput } from "../tenants/tenant.ts";
export type { ConfigInput };

/** `config`, unchanged, checked by TypeScript as it is written. */
export function defineConfig(config: ConfigInput): ConfigInput {
  return config;
}
