/** Turns the doctor's facts into findings. Pure. */

import { QuoteUtils } from "@pgsql/quotes";
import type { AdvisoryLocks } from "../control/advisory-locks.ts";
import { type ControlState, readOnlyWords } from "../control/install.ts";
import { keepingText, keepsStatements } from "../control/kept-statements.ts";
import type { WatchedTable } from "../control/watched-tables.ts";
import { frontConnections } from "../fleet/policy/pool-room.ts";
import type { PatchReport } from "../shared/kernel/patch-policy.ts";
import type { TenantFinding } from "./tenant-findings.ts";

export interface Finding {
  readonly level: "ok" | "warn" | "fail";
  readonly about: string;
  readonly text: string;
}

/** Facts about the connecting role. */
export interface RoleFacts {
  readonly name: string;
  readonly superuser: boolean;
  /** Number of tables and views in tenants' schemas that it owns. */
  readonly owned: number;
  /** Tenants' roles whose privileges it has without SET ROLE. */
  readonly inherited: readonly string[];
  /** Schemas of tenants with roles that it may use without SET ROLE. */
  readonly usable: readonly string[];
  /** What it is, or may become, that gives more access than it should have, one sentence each. */
  readonly beyond: readonly string[];
}

export interface DatabaseFacts {
  readonly name: string;
  /** Identifies the server: equal for databases of the same one. */
  readonly server: string;
  readonly version: string;
  readonly versionNumber: number;
  /** Connections that the server allows to non-superusers. */
  readonly connections: number;
  /** Limits of this role, and of this database; -1: no limit. */
  readonly limits: { readonly role: number; readonly database: number };
  readonly control: ControlState;
  readonly advisoryLocks: AdvisoryLocks;
  readonly role: RoleFacts;
  readonly missingSchemas: readonly string[];
  /** Mistakes in single tenants, with their cure. */
  readonly tenants: readonly TenantFinding[];
  /** Privileges of tenants' roles that they should not have, one sentence each. */
  readonly unsafe: readonly string[];
  /** The tables of tenants' schemas. */
  readonly watched: readonly WatchedTable[];
  /** Number of tenants without roles, whose requests run as the connecting role. */
  readonly rolelessTenants: number;
  readonly poolSize: number;
  readonly poolReserve: number;
  /** `renewAfter.memoryMb`, and whether the role may see the memory of its sessions. */
  readonly memory: { readonly limitMb: number; readonly isTold: boolean };
  /** Connections for session functions; 0 if no tenant has one. */
  readonly sessionConnections: number;
  readonly install: boolean;
}

export interface DiagnosisOptions {
  readonly guard: "writes" | "all" | "off";
  readonly roleSafety: "refuse" | "warn" | "off";
}

/** The oldest and newest versions on which the tests run. */
const tested = { from: 15, to: 18 };
/** The oldest version with SQL-standard function bodies, which the control schema uses. */
const oldestMajor = 14;

const ok = (about: string, text: string): Finding => ({ level: "ok", about, text });
const warn = (about: string, text: string): Finding => ({ level: "warn", about, text });
const fail = (about: string, text: string): Finding => ({ level: "fail", about, text });

/** One line for the patches in place, and one for each that is not. */
export function diagnosePatches(reports: readonly PatchReport[]): Finding[] {
  const applied = reports.filter(({ state }) => state === "applied");
  const others = reports.flatMap(({ name, state, reason }): Finding[] => {
    if (state === "applied") return [];
    const text = `${state}: ${reason ?? "no reason given"}`;
    return [state === "refused" ? fail(`patch ${name}`, text) : warn(`patch ${name}`, text)];
  });
  return [
    ok("patches", `${applied.length} of ${reports.length} patches to dependencies are applied`),
    ...others,
  ];
}

export function diagnoseDatabase(facts: DatabaseFacts, options: DiagnosisOptions): Finding[] {
  const about = `database ${facts.name}`;
  return [
    versionFinding(about, facts),
    ...readOnlyFindings(about, facts),
    ...controlFindings(about, facts, options.guard),
    ...statementsFindings(about, facts),
    ...memoryFindings(about, facts),
    advisoryFinding(about, facts),
    ...roleFindings(about, facts),
    ...unsafeFindings(about, facts, options.roleSafety),
    ...listed(facts.missingSchemas, (names) => fail(about, `schemas of tenants do not exist: ${names}`)),
    ...watchedFindings(about, facts),
    ...tenantLines(facts.tenants).map(({ level, text }) => (level === "fault" ? fail : warn)(about, text)),
  ];
}

function versionFinding(about: string, { version, versionNumber }: DatabaseFacts): Finding {
  const major = Math.floor(versionNumber / 10_000);
  if (major < oldestMajor) return fail(about, `PostgreSQL ${version}: ${oldestMajor} or later is required`);
  if (major < tested.from || major > tested.to)
    return warn(about, `PostgreSQL ${version}: tested with ${tested.from} to ${tested.to}`);
  return ok(about, `reachable, PostgreSQL ${version}`);
}

function readOnlyFindings(about: string, { control: { session } }: DatabaseFacts): Finding[] {
  if (!session.readOnly) return [];
  return [warn(about, `${readOnlyWords(session)}: reads are served, writes fail with DATABASE_READ_ONLY`)];
}

function controlFindings(
  about: string,
  { control, install }: DatabaseFacts,
  guard: DiagnosisOptions["guard"],
): Finding[] {
  const { version, expected, installable, eventTriggers, missing } = control;
  const state = `control schema version ${version} of ${expected}`;
  const words = [state, ...missing].join("; ");
  if (version < expected) {
    return [guard === "off" || (install && installable) ? warn(about, words) : fail(about, words)];
  }
  return [eventTriggers ? ok(about, `${state}, event triggers in place`) : warn(about, words)];
}

/** Only with a usable control schema. That event triggers are missing is reported with it. */
function statementsFindings(about: string, { control }: DatabaseFacts): Finding[] {
  if (control.version < control.expected) return [];
  return [(keepsStatements(control) || !control.eventTriggers ? ok : warn)(about, keepingText(control))];
}

/**
 * No warning: by PostgreSQL's default only members of pg_read_all_stats see it, and connections are renewed by tenants and age anyway.
 * A member also sees every session's statements, so the narrow grant comes first.
 */
function memoryFindings(about: string, { memory: { limitMb, isTold }, role }: DatabaseFacts): Finding[] {
  if (limitMb === 0) return [];
  if (isTold) return [ok(about, `connections are renewed at ${limitMb} MB (renewAfter.memoryMb)`)];
  const name = QuoteUtils.quoteIdentifier(role.name);
  const narrow = [
    `grant select on pg_catalog.pg_backend_memory_contexts to ${name}`,
    `grant execute on function pg_catalog.pg_get_backend_memory_contexts() to ${name}`,
  ].join("; ");
  const text = `renewAfter.memoryMb has no effect, as role ${role.name} may not see the memory of its sessions`;
  return [
    ok(
      about,
      `${text}: run "${narrow}" as a superuser, or where there is none, "grant pg_read_all_stats to ${name}"`,
    ),
  ];
}

/** Nothing where no table is watched: subscriptions need not be used. */
function watchedFindings(about: string, { watched }: DatabaseFacts): Finding[] {
  const outdated = watched.filter(({ state }) => state === "outdated");
  const count = watched.filter(({ state }) => state === "watched").length;
  return [
    ...(count === 0 ? [] : [ok(about, `${count} tables are watched for subscribers`)]),
    ...listed(
      outdated.map(({ schema, table }) => `${schema}.${table}`),
      (names) =>
        warn(
          about,
          `tables are watched only in part, or by an earlier primary key (call rowhouse.watch again): ${names}`,
        ),
    ),
  ];
}

/**
 * By PostgreSQL's default every role may take them, and tenants' functions may rely on that, so it is no
 * warning.
 */
function advisoryFinding(about: string, { advisoryLocks: { open, usable }, role }: DatabaseFacts): Finding {
  if (!usable) {
    return fail(
      about,
      `role ${role.name} may not take advisory locks, which writes need: run "rowhouse install --revoke-advisory-locks" again as a superuser`,
    );
  }
  return ok(
    about,
    open
      ? 'every role may take advisory locks ("rowhouse install --revoke-advisory-locks" restricts them to hosts)'
      : "advisory locks are restricted to the roles of hosts and migrations",
  );
}

function roleFindings(about: string, { role, rolelessTenants, versionNumber }: DatabaseFacts): Finding[] {
  // Before PostgreSQL 16 inheritance was a property of the role, not of the grant.
  const grantsSay = versionNumber >= 160_000;
  const { name, superuser, owned, inherited, usable, beyond } = role;
  const faults = beyond.map((text) => fail(about, text));
  if (!superuser) {
    const rights = (names: string): Finding =>
      warn(
        about,
        `role ${name} inherits the privileges of ${names}: ${grantsSay ? "grant them with inherit false" : `alter role ${name} noinherit`}`,
      );
    faults.push(...listed(inherited, rights));
    // A function that resets its role could take any tenant's role anyway: this prevents mistakes, not
    // attacks.
    const uses = (names: string): Finding =>
      warn(
        about,
        `role ${name} may use schemas of tenants as itself: ${names} (not needed by any request: revoke it)`,
      );
    if (inherited.length === 0) faults.push(...listed(usable, uses));
    if (owned > 0) {
      const text = `role ${name} owns ${owned} tables or views of tenants: row-level security does not apply to it there`;
      faults.push(rolelessTenants > 0 ? fail(about, text) : warn(about, text));
    }
  }
  if (rolelessTenants > 0) {
    faults.push(warn(about, `${rolelessTenants} tenants have no roles, so their requests run as ${name}`));
  }
  return faults.length > 0 ? faults : [ok(about, `role ${name} has only the privileges it needs`)];
}

/** Maximum number of findings shown: what is wrong with one tenant's roles is mostly wrong with all of them. */
const maxUnsafe = 20;

function unsafeFindings(
  about: string,
  { unsafe }: DatabaseFacts,
  roleSafety: DiagnosisOptions["roleSafety"],
): Finding[] {
  const more = unsafe.length - maxUnsafe;
  const texts = [...unsafe.slice(0, maxUnsafe), ...(more > 0 ? [`and ${more} more of this kind`] : [])];
  return texts.map((text) => (roleSafety === "refuse" ? fail(about, text) : warn(about, text)));
}

/**
 * Findings as lines of a report; only the first of each level, because what is wrong with one tenant is
 * mostly wrong with all of them.
 */
export function tenantLines(
  findings: readonly TenantFinding[],
): { readonly level: TenantFinding["level"]; readonly text: string }[] {
  return (["fault", "note"] as const).flatMap((level) => {
    const those = findings.filter((finding) => finding.level === level);
    const texts = those.slice(0, maxUnsafe).map(({ tenant, text }) => `tenant ${tenant}: ${text}`);
    const more = those.length - maxUnsafe;
    if (more > 0) texts.push(`and ${more} more of this kind`);
    return texts.map((text) => ({ level, text }));
  });
}

/**
 * Connections needed per server if every cell fills its pool. A reserve that does not fit is only a warning:
 * tenants wait then.
 */
export function diagnosePools(
  databases: readonly DatabaseFacts[],
  { cells }: { readonly cells: number },
): Finding[] {
  const findings: Finding[] = [];
  for (const group of Map.groupBy(databases, ({ server }) => server).values()) {
    const names = group.map(({ name }) => name).join(", ");
    const about = `connections of ${names}`;
    const needed = group.reduce((sum, each) => sum + connectionsOf(each, cells), 0);
    const reserve = group.reduce((sum, each) => sum + cells * each.poolReserve, 0);
    const pools = [...new Set(group.map(({ poolSize }) => poolSize))].join(" or ");
    const sum = `${cells} cells × poolSize ${pools}${group.length > 1 ? ` × ${group.length} databases` : ""} plus the front's: ${needed}`;
    const most = group[0]?.connections ?? 0;
    const all = `${sum}, with poolReserve ${needed + reserve}, of ${most}`;
    if (needed > most) {
      findings.push(fail(about, `${sum}, but the server allows ${most}: lower cells.max or poolSize`));
    } else if (needed + reserve > most) {
      const fitting = Math.floor((most - needed) / (cells * group.length));
      findings.push(
        warn(
          about,
          `${all}: ${needReserve(fitting)}, or raise max_connections by ${needed + reserve - most}`,
        ),
      );
    } else if (needed > most * nearlyAll) {
      findings.push(warn(about, `${all}: not enough for a second host`));
    } else findings.push(ok(about, all));
    findings.push(...group.flatMap((each) => limitFindings(each, cells)));
  }
  return findings;
}

const nearlyAll = 0.5;

const needReserve = (fitting: number): string => `lower poolReserve to ${fitting}`;

const connectionsOf = ({ poolSize, sessionConnections }: DatabaseFacts, cells: number): number =>
  cells * poolSize + frontConnections + sessionConnections;

function limitFindings(facts: DatabaseFacts, cells: number): Finding[] {
  const needed = connectionsOf(facts, cells);
  const reserve = cells * facts.poolReserve;
  const { role, database } = facts.limits;
  const least = Math.min(...[role, database].filter((limit) => limit >= 0));
  if (needed + reserve <= least) return [];
  const about = `connections of ${facts.name}`;
  const who = least === role ? `role ${facts.role.name}` : `database ${facts.name}`;
  const limit = `may be needed, but ${who} has a connection limit of ${least}`;
  if (needed > least) return [fail(about, `${needed} ${limit}`)];
  const fitting = Math.floor((least - needed) / cells);
  return [warn(about, `${needed + reserve} ${limit}: ${needReserve(fitting)}, or raise the limit`)];
}

const maxNamed = 5;

/** One finding that names the first few of `names`; none if `names` is empty. */
function listed(names: readonly string[], finding: (text: string) => Finding): Finding[] {
  if (names.length === 0) return [];
  const more = names.length > maxNamed ? ` and ${names.length - maxNamed} more` : "";
  return [finding(names.slice(0, maxNamed).join(", ") + more)];
}
