/** Opens the configured source of tenants, and forgets cached facts about a tenant when it or its schemas change. */

import type { Config } from "../config/config.ts";
import { tenantDefaults } from "../config/cross-checks.ts";
import { presetVersion } from "../config/preset-version.ts";
import type { Databases } from "../control/databases.ts";
import { type ChangesView, Looks, type LooksTarget } from "../control/looks.ts";
import { lookUpRevisions, parseNotice } from "../control/revisions.ts";
import { Decisions } from "../decisions/decisions.ts";
import { PlanWarmer } from "../decisions/plan-warmer.ts";
import { type ProbedDatabase, warmPlans } from "../decisions/probe.ts";
import { RevisionNotices } from "../decisions/revision-notices.ts";
import type { Observe } from "../observability/observation.ts";
import { RoleSafety } from "../role-safety/role-safety.ts";
import { HostError, unreachable } from "../shared/kernel/errors.ts";
import type { TenantId } from "../shared/kernel/ids.ts";
import { listSource } from "../tenants/list-source.ts";
import { openModuleSource } from "../tenants/module-source.ts";
import type { TenantSource } from "../tenants/source.ts";
import { tableSource } from "../tenants/table-source.ts";
import type { HostContext } from "./context.ts";

export interface OpenTenants {
  readonly source: TenantSource;
  readonly decisions: Decisions;
  readonly watch: SchemaWatch;
}

/** Opens the source, the decisions and the watch on schemas, and follows changes from then on. */
export async function openTenants(context: HostContext, databases: Databases): Promise<OpenTenants> {
  const { config, observe, started } = context;
  const source = await openSource(config, databases, observe);
  started.add(() => source.close());
  const decisions = await openDecisions(context, databases, source, observe);
  const watch = watchSchemas({ databases, source, decisions, observe, everyMs: config.guardPollMs });
  started.add(() => watch.close());
  await databases.listen();
  watch.open();
  return { source, decisions, watch };
}

export async function openSource(
  config: Config,
  databases: Databases,
  observe: Observe,
): Promise<TenantSource> {
  const { tenants } = config;
  const defaults = tenantDefaults(databases.names);
  switch (tenants.kind) {
    case "list":
      return listSource(tenants.list);
    case "table": {
      const { database, listener } = databases.get(tenants.database);
      return tableSource({
        database,
        listener,
        defaults: { ...defaults, database: tenants.database },
        observe,
      });
    }
    case "module":
      return openModuleSource({ url: tenants.url, defaults, observe });
    case "demo":
      throw new HostError("INTERNAL", "the demo's tenants must be seeded before the host starts");
    default:
      return unreachable(tenants);
  }
}

function probed(databases: Databases, name: string): ProbedDatabase {
  const { database, control } = databases.get(name);
  return { together: (statements, tenant) => database.together(statements, tenant), control };
}

/** Decisions about tenants, with the options that `config` sets for all of them. */
export async function openDecisions(
  { config, version }: Pick<HostContext, "config" | "version">,
  databases: Databases,
  source: TenantSource,
  observe: Observe,
): Promise<Decisions> {
  const { pooling, guard, roleSafety, acceptedSql: accepted } = config;
  const database = (name: string): ProbedDatabase => probed(databases, name);
  return new Decisions({
    database,
    pooling,
    guard,
    presetVersion: await presetVersion(config.preset),
    stockPreset: config.preset === null,
    hostVersion: version,
    safety:
      roleSafety === "off"
        ? null
        : new RoleSafety({ mode: roleSafety, accepted, tenants: () => source.list(), database, observe }),
    observe,
  });
}

/** The channel on which the control schema's triggers name each schema whose revision moved. */
const schemaChannel = "rowhouse_schema";

interface WatchOptions {
  readonly databases: Databases;
  readonly source: TenantSource;
  readonly decisions: Decisions;
  readonly observe: Observe;
  /** How often to poll for changes that no notification announces. */
  readonly everyMs: number;
}

export interface SchemaWatch {
  /** Starts polling; to be called once the listeners are open. */
  open(): void;
  /** How changes of a database's schemas are found. */
  changes(database: string): ChangesView | null;
  close(): Promise<void>;
}

/** Installs the handlers. The listeners are opened afterwards, and the watch is closed before the databases. */
function watchSchemas(options: WatchOptions): SchemaWatch {
  const { databases, source, decisions, observe, everyMs } = options;
  const changed = (tenants: readonly TenantId[]): void => {
    for (const tenant of tenants) observe({ kind: "tenant.changed", tenant, cause: "notification" });
  };
  const notices = new RevisionNotices({
    interest: (name, schema, revision) => decisions.interest(name, schema, revision),
    read: (name, schemas) => {
      observe({ kind: "notices.read", database: name, schemas: schemas.length });
      return lookUpRevisions(databases.get(name).database, schemas);
    },
    recordRevision: (name, schema, revision) => changed(decisions.recordRevision(name, schema, revision)),
    recordMissing: (name, schema) => changed(decisions.recordMissing(name, schema)),
  });
  const planWarmer = new PlanWarmer({ warm: (name) => warmPlans(probed(databases, name)) });
  source.onChange((tenant) => {
    if (tenant === null) decisions.forgetAll();
    else decisions.forget(tenant);
    observe({ kind: "tenant.changed", tenant, cause: tenant === null ? "reload" : "notification" });
  });
  const target: LooksTarget = {
    revisions: (name, revisions) => changed(decisions.compare(name, revisions)),
    changed: (name, schemas) => {
      changed(schemas.flatMap((schema) => decisions.forgetUsersOf(name, schema)));
      planWarmer.schedule(name);
    },
  };
  const looks = new Map<string, Looks>();
  for (const name of databases.names) {
    followNotices(name, { ...options, notices, planWarmer });
    const { database, control, eventTriggers } = databases.get(name);
    looks.set(name, new Looks({ database, control, eventTriggers, everyMs, observe, target }));
  }
  return {
    open() {
      for (const each of looks.values()) each.open();
    },
    changes: (name) => looks.get(name)?.view ?? null,
    async close() {
      notices.close();
      planWarmer.close();
      await Promise.all([...looks.values()].map((each) => each.close()));
    },
  };
}

interface NoticeReaders extends Pick<WatchOptions, "databases" | "decisions" | "observe"> {
  readonly notices: RevisionNotices;
  readonly planWarmer: PlanWarmer;
}

/** Forwards the notifications of the database `name`; after a gap in them, every decision is forgotten. */
function followNotices(
  name: string,
  { databases, decisions, observe, notices, planWarmer }: NoticeReaders,
): void {
  const { listener, database, control } = databases.get(name);
  const askWhetherReplica = (): void => {
    if (!control) return;
    const found = lookUpRevisions(database, []).then(({ replica }) => {
      if (replica) notices.replica(name);
    });
    // The next notice finds out as well.
    found.catch(() => undefined);
  };
  askWhetherReplica();
  // The connections have no cached plans yet.
  planWarmer.schedule(name);
  listener.on(schemaChannel, (payload) => {
    const notice = parseNotice(payload);
    if (notice === null) return;
    notices.receive(name, notice.schema, notice.revision);
    planWarmer.schedule(name);
  });
  listener.onGap(() => {
    askWhetherReplica();
    decisions.forgetAll();
    observe({ kind: "tenant.changed", tenant: null, cause: "reload" });
  });
}
