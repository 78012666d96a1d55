/** Everything worth observing, as one union. The logger and the metrics are its two interpreters. */
import type { ErrorCode } from "../shared/kernel/errors.ts";
import type { CellId, InstanceKey, ShapeHash, TenantId } from "../shared/kernel/ids.ts";
import type { PatchState } from "../shared/kernel/patch-policy.ts";
import type { HostPhase } from "../shared/kernel/phase.ts";
import type { RenewalCounts } from "../shared/protocol/messages.ts";

/** Why a cell's thread ended. */
export type TerminationReason =
  | "evicted"
  | "idle"
  | "over-budget"
  | "stalled"
  | "replaced"
  | "build-timeout"
  | "crashed"
  | "flushed"
  | "shutdown"
  | "start-failed";

/** Why an instance was removed. */
export type EvictionReason =
  | "capacity"
  | "idle"
  | "requested"
  | "flushed"
  | "stale"
  | "cell-lost"
  | "shutdown";

/** Why a log line was not written: the buffer was full, or the rate limit of its kind was exceeded. */
export type DropReason = "full" | "rate";

export type Observation =
  | { kind: "host.phase"; phase: HostPhase; version: string }
  /** The config file, or null, and the .env files that were read. */
  | { kind: "host.config"; file: string | null; envFiles: readonly string[] }
  | { kind: "host.listening"; name: "public" | "admin"; url: string }
  | {
      kind: "host.plan";
      memoryMb: number;
      frontMb: number;
      cells: number;
      /** What limits the number of cells. */
      boundBy: "memory" | "connections" | "cells.max";
      heapMb: number;
      hardLimitMb: number;
      instances: number;
      spare: number;
      planMb: number;
    }
  /** An uncaught error; a fatal one ends the process. */
  | { kind: "host.error"; error: Error; fatal: boolean }
  /** A warning from Node.js or a library. */
  | { kind: "host.warning"; message: string }
  /** Lines that are missing in the log; `lines` says how many of which kind or level. */
  | { kind: "log.dropped"; reason: DropReason; count: number; lines: readonly string[] }
  | { kind: "config.warning"; path: string; message: string }
  /** The state of a patch to a dependency: one observation each at the start, another if it later turns out not to apply. */
  | { kind: "patch.state"; name: string; state: PatchState; reason: string | null }
  /** A listening socket could not accept a connection, for example because file descriptors ran out. */
  | { kind: "http.error"; error: Error }
  /** A refused admin request; an address that fails too often is reported once per window. */
  | { kind: "admin.refused"; requestId: string; code: ErrorCode; remoteAddress: string; path: string }
  | {
      kind: "request.done";
      status: number;
      code?: ErrorCode;
      tenant?: TenantId;
      durationMs: number;
      requestId: string;
    }
  | {
      kind: "request.failed";
      requestId: string;
      code: ErrorCode;
      /** Distinguishes errors of one code. */
      reason?: string;
      tenant?: TenantId;
      error: Error;
    }
  | {
      kind: "request.retried";
      tenant: TenantId;
      /** `build-overtaken`: the request has not run yet, because the schema changed during the build of its instance. */
      reason: "cell-lost" | "connection-lost" | "schema-changed" | "build-overtaken";
      attempt: number;
    }
  | {
      kind: "tenant.decided";
      tenant: TenantId;
      key: InstanceKey;
      pooled: boolean;
      reason?: string;
      probeMs: number;
    }
  /** Findings about a tenant's roles that have not been reported before. */
  | {
      kind: "tenant.unsafe";
      tenant: TenantId;
      findings: readonly string[];
      codes: readonly string[];
      refused: boolean;
    }
  /** Findings that affect all tenants of a database. */
  | {
      kind: "database.unsafe";
      database: string;
      findings: readonly string[];
      codes: readonly string[];
      refused: boolean;
    }
  | { kind: "tenant.changed"; tenant: TenantId | null; cause: "notification" | "reload" | "flush" }
  | { kind: "tenant.migrated"; tenant: TenantId; from: ShapeHash; to: ShapeHash; migrateMs: number }
  /** The tenant used `share` of the time of its shared cell, and gets an instance of its own from now on. */
  | { kind: "tenant.quarantined"; tenant: TenantId; key: InstanceKey; cell: CellId; share: number }
  | { kind: "tenant.released"; tenant: TenantId; key: InstanceKey; cell: CellId; why: "calm" | "capacity" }
  | { kind: "guard.checked"; count: number }
  | { kind: "connections.renewed"; counts: RenewalCounts }
  | { kind: "guard.failed"; tenant: TenantId; attempt: number }
  | { kind: "guard.exhausted"; tenant: TenantId; attempts: number }
  | { kind: "schema.read"; tenant: TenantId; what: "shape" | "revisions" }
  /** Revisions were read to verify notifications about `schemas` schemas. */
  | { kind: "notices.read"; database: string; schemas: number }
  /** Polling found changes without a notification; `moved`: their revisions were moved, which notifies other hosts. */
  | { kind: "look.found"; database: string; schemas: number; moved: boolean }
  | { kind: "look.failed"; database: string; message: string }
  /** Events were read from a database; `events`: how many there were for schemas with subscribers. */
  | { kind: "realtime.polled"; database: string; events: number; durationMs: number }
  /** An operation ran for a subscriber, or several. */
  | { kind: "realtime.run"; tenant: TenantId }
  /** A WebSocket has been closed, by whichever side. */
  | { kind: "realtime.closed"; code: number }
  | { kind: "realtime.failing"; database: string; message: string }
  /** Events may have been missed, so all subscribers of the database are served anew. */
  | { kind: "realtime.gap"; database: string; reason: "away" | "server" }
  | { kind: "cell.started"; cell: CellId; startMs: number }
  | { kind: "cell.condemned"; cell: CellId; heapUsedMb: number; heapBudgetMb: number }
  | {
      kind: "cell.terminated";
      cell: CellId;
      reason: TerminationReason;
      heapUsedMb: number;
      inFlight: number;
      instances: number;
    }
  | { kind: "cell.error"; cell: CellId; error: Error }
  | {
      kind: "cell.log";
      cell: CellId;
      level: "debug" | "info" | "warn" | "error";
      message: string;
      /** Set if the message was logged during a request of that tenant. */
      tenant?: TenantId;
      /** How many similar lines the thread dropped before this one. */
      leftOut?: number;
    }
  | { kind: "build.started"; key: InstanceKey; cell: CellId; queuedMs: number }
  | { kind: "build.done"; key: InstanceKey; cell: CellId; buildMs: number; types: number }
  | { kind: "build.failed"; key: InstanceKey; code: ErrorCode; error: Error; buildMs: number }
  | { kind: "instance.measured"; key: InstanceKey; cell: CellId; heapMb: number }
  | { kind: "instance.evicted"; key: InstanceKey; cell: CellId; reason: EvictionReason; heapMb: number }
  | { kind: "database.lost"; database: string; error: Error }
  | { kind: "database.listening"; database: string; gap: boolean }
  /** A pooler, or another proxy, was detected in front of the database. */
  | { kind: "database.pooled"; database: string }
  /** What becomes of prepared statements when a connection changes tenants: see `src/control/kept-statements.ts`. */
  | { kind: "database.statements"; database: string; kept: boolean; about: string }
  | {
      kind: "control.installed";
      database: string;
      version: number;
      eventTriggers: boolean;
      missing: readonly string[];
    };

/** What concerns subscriptions. */
export type RealtimeObservation = Extract<Observation, { kind: `realtime.${string}` }>;

export type Observe = (observation: Observation) => void;
