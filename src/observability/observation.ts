/** Everything worth seeing, as one union. The logger and the metrics are its two interpreters. */
import type { ErrorCode } from "../shared/kernel/errors.ts";
import type { CellId, InstanceKey, ShapeHash, TenantId } from "../shared/kernel/ids.ts";
import type { PatchState } from "../shared/kernel/patch-policy.ts";
import type { HostPhase } from "../shared/kernel/phase.ts";

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

/** Why an instance left. */
export type EvictionReason =
  | "capacity"
  | "idle"
  | "requested"
  | "flushed"
  | "stale"
  | "cell-lost"
  | "shutdown";

/** Why a log line was not written: it did not fit in, or there were too many of its kind. */
export type DropReason = "full" | "rate";

export type Observation =
  | { kind: "host.phase"; phase: HostPhase; version: string }
  /** Where its config comes from. */
  | { kind: "host.config"; file: string | null; envFiles: readonly string[] }
  | { kind: "host.listening"; name: "public" | "admin"; url: string }
  | {
      kind: "host.plan";
      memoryMb: number;
      frontMb: number;
      cells: number;
      /** Why they are not more. */
      boundBy: "memory" | "connections" | "cells.max";
      heapMb: number;
      hardLimitMb: number;
      instances: number;
      spare: number;
      planMb: number;
    }
  /** What nobody caught. A fatal one is the end of the process. */
  | { kind: "host.error"; error: Error; fatal: boolean }
  /** What Node.js or a library warns of. */
  | { kind: "host.warning"; message: string }
  /** Lines that are not in the log: nobody took them, or there were too many of their kind; `lines` says of which. */
  | { kind: "log.dropped"; reason: DropReason; count: number; lines: readonly string[] }
  | { kind: "config.warning"; path: string; message: string }
  /** What became of a patch into a dependency: one for each at the start, and again where it turned out not to fit. */
  | { kind: "patch.state"; name: string; state: PatchState; reason: string | null }
  /** A listening socket that could not take a connection, for want of file descriptors for one. */
  | { kind: "http.error"; error: Error }
  /** Whoever it was did not get in; an address that fails too often is told of once a window. */
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
      /** What it is, of the things that have this code. */
      reason?: string;
      tenant?: TenantId;
      error: Error;
    }
  | {
      kind: "request.retried";
      tenant: TenantId;
      /** `build-overtaken`: it has not run yet, as the schema changed while its instance was built. */
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
  /** What was not told of before. */
  | {
      kind: "tenant.unsafe";
      tenant: TenantId;
      findings: readonly string[];
      codes: readonly string[];
      refused: boolean;
    }
  /** The same of what is wrong with all tenants of a database. */
  | {
      kind: "database.unsafe";
      database: string;
      findings: readonly string[];
      codes: readonly string[];
      refused: boolean;
    }
  | { kind: "tenant.changed"; tenant: TenantId | null; cause: "notification" | "reload" | "flush" }
  | { kind: "tenant.migrated"; tenant: TenantId; from: ShapeHash; to: ShapeHash; migrateMs: number }
  /** The tenant took `share` of the time of the cell that it shared, and has an instance of its own from now on. */
  | { kind: "tenant.quarantined"; tenant: TenantId; key: InstanceKey; cell: CellId; share: number }
  | { kind: "tenant.released"; tenant: TenantId; key: InstanceKey; cell: CellId; why: "calm" | "capacity" }
  | { kind: "guard.checked"; count: number }
  | { kind: "guard.failed"; tenant: TenantId; attempt: number }
  | { kind: "guard.exhausted"; tenant: TenantId; attempts: number }
  | { kind: "schema.read"; tenant: TenantId; what: "shape" | "revisions" }
  /** To find out whether what was notified is so; how many schemas. */
  | { kind: "notices.read"; database: string; schemas: number }
  /** Changes that nothing had announced; whether their revisions moved, so that other hosts know as well. */
  | { kind: "look.found"; database: string; schemas: number; moved: boolean }
  | { kind: "look.failed"; database: string; message: string }
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
      /** Where it was said while a request of that tenant ran. */
      tenant?: TenantId;
      /** How many like it the thread kept to itself before. */
      leftOut?: number;
    }
  | { kind: "build.started"; key: InstanceKey; cell: CellId; queuedMs: number }
  | { kind: "build.done"; key: InstanceKey; cell: CellId; buildMs: number; types: number }
  | { kind: "build.failed"; key: InstanceKey; code: ErrorCode; error: Error; buildMs: number }
  | { kind: "instance.measured"; key: InstanceKey; cell: CellId; heapMb: number }
  | { kind: "instance.evicted"; key: InstanceKey; cell: CellId; reason: EvictionReason; heapMb: number }
  | { kind: "database.lost"; database: string; error: Error }
  | { kind: "database.listening"; database: string; gap: boolean }
  /** Connections to it are a pooler's, or somebody else's who stands in between. */
  | { kind: "database.pooled"; database: string }
  | {
      kind: "control.installed";
      database: string;
      version: number;
      eventTriggers: boolean;
      missing: readonly string[];
    };

export type Observe = (observation: Observation) => void;
