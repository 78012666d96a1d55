/** Decides which of a preset's services and other options an instance uses, and names those that it ignores. */
import type { BlueprintSpec } from "../../src/shared/model/blueprint-spec.ts";
import { reservedIn } from "../request/preset-settings.ts";

type Resolved = GraphileConfig.ResolvedPreset;
type Service = NonNullable<Resolved["pgServices"]>[number];

/** The service of the preset that stands for the tenant's database: the one named `main`, or the only one. */
export function userService({ pgServices = [] }: Resolved): Service | undefined {
  return (
    pgServices.find(({ name }) => name === "main") ?? (pgServices.length === 1 ? pgServices[0] : undefined)
  );
}

/** An option that is ignored; `path` is `section.name`. */
interface Passed {
  readonly path: string;
  /** What takes the option's place, or what to do instead. */
  readonly instead: string;
  /** Whether `value` asks for something other than what is done; by default any value but undefined, false and null does. */
  readonly differs?: (value: unknown) => boolean;
}

const otherThan =
  (usual: unknown) =>
  (value: unknown): boolean =>
    value !== undefined && value !== usual;

const passed: readonly Passed[] = [
  { path: "grafserv.websockets", instead: "WebSockets are not supported" },
  { path: "grafserv.watch", instead: "changed schemas are rebuilt automatically" },
  { path: "grafserv.port", instead: "listen.port" },
  { path: "grafserv.host", instead: "listen.host" },
  { path: "grafserv.graphqlPath", instead: "always /graphql", differs: otherThan("/graphql") },
  { path: "grafserv.maxRequestLength", instead: "limits.bodyBytes" },
  { path: "grafserv.pgJwtSecret", instead: "use jwt in each tenant's record" },
  { path: "grafserv.pgJwtVerifyOptions", instead: "use jwt in each tenant's record" },
  { path: "gather.installWatchFixtures", instead: "no fixtures are needed" },
  { path: "schema.retryOnInitFail", instead: "failed builds are retried automatically" },
  { path: "schema.exportSchemaSDLPath", instead: "no file is written" },
  { path: "schema.exportSchemaIntrospectionResultPath", instead: "no file is written" },
];

/**
 * The names of the options that `preset` sets and the host ignores, each with its replacement. Not named: options at their usual
 * values, and the members that every service from `makePgService` has.
 */
export function unhonouredOf(preset: Resolved, spec: BlueprintSpec): string[] {
  const found = passed.flatMap(({ path, instead, differs = isSet }) =>
    differs(valueAt(preset, path)) ? [`${path} (${instead})`] : [],
  );
  const usual = spec.kind === "pooled" ? "unqualified" : "qualified";
  if (otherThan(usual)(valueAt(preset, "gather.pgIdentifiers"))) {
    found.push(`gather.pgIdentifiers (${usual} in ${spec.kind} instances)`);
  }
  return [...found, ...unhonouredServices(preset, spec)];
}

function unhonouredServices(preset: Resolved, { schemas }: BlueprintSpec): string[] {
  const { pgServices = [] } = preset;
  const chosen = userService(preset);
  const found: string[] = [];
  for (const [index, service] of pgServices.entries()) {
    const at = `pgServices[${index}]`;
    if (service !== chosen) {
      found.push(`${at} ${JSON.stringify(service.name)} (each tenant has one database)`);
      continue;
    }
    found.push(...unhonouredIn(service, at));
    const logical = schemas.map((schema) => schema.logical);
    if (service.schemas !== undefined && service.schemas.join("\n") !== logical.join("\n")) {
      found.push(`${at}.schemas (use schemas in each tenant's record)`);
    }
  }
  return found;
}

function unhonouredIn(service: Service, at: string): string[] {
  const found = [`${at}: connection string and pools (use databases in the config)`];
  if (service.pgSubscriber != null)
    found.push(`${at}.pgSubscriber, pubsub (each request has its own, if realtime is on)`);
  for (const [key, usual] of [
    ["name", "main"],
    ["pgSettingsKey", "pgSettings"],
    ["withPgClientKey", "withPgClient"],
  ] as const) {
    if (otherThan(usual)(Reflect.get(service, key))) found.push(`${at}.${key} (always ${usual})`);
  }
  for (const key of ["pgSettings", "pgSettingsForIntrospection"] as const) {
    for (const name of reservedIn(service[key])) found.push(`${at}.${key}.${name} (set by the host)`);
  }
  return found;
}

function isSet(value: unknown): boolean {
  return value !== undefined && value !== null && value !== false;
}

function valueAt(preset: Resolved, path: string): unknown {
  return path.split(".").reduce<unknown>((value, key) => {
    return typeof value === "object" && value !== null ? Reflect.get(value, key) : undefined;
  }, preset);
}
