/** The tests that also run on PostgreSQL 15: all that read the catalogue, hold a transaction or a lock, or depend on rights. */

const coreOfDatabase = [
  "adaptor*",
  "build-session",
  "change-texts",
  "connecting-role",
  "connection*",
  "decisions",
  "enum-readers",
  "guard-*",
  "host-claims",
  "incremental",
  "install",
  "instances",
  "introspection",
  "listen",
  "lock-pauses",
  "login-tokens",
  "migrate*",
  "notifiers",
  "pool",
  "preparers",
  "preset",
  "probe-*",
  "reach",
  "revisions",
  "schema-names",
  "select-texts",
  "serve",
  "session*",
  "shape*",
  "single-write",
  "tenant-*",
  "transaction",
  "visibility*",
];

const coreOfHost = [
  "auth",
  "check",
  "documented-roles",
  "guard-closure",
  "guard-foreign-lock",
  "guard-interleaving",
  "guard-managed",
  "guard-tenant",
  "install",
  "migrate",
  "pooling",
  "racing",
  "routing",
];

/** As globs for Vitest. */
export const coreFiles: readonly string[] = [
  ...coreOfDatabase.map((name) => `test/database/${name}.test.ts`),
  ...coreOfHost.map((name) => `test/host/${name}.test.ts`),
];
