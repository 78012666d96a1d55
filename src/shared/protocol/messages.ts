/** Messages between the front and a cell's thread. Everything here survives a structured clone. */
import type { MessagePort } from "node:worker_threads";
import type { ErrorCode } from "../kernel/errors.ts";
import type { CellId, TenantId } from "../kernel/ids.ts";
import type { PatchStates } from "../kernel/patch-policy.ts";
import type { BlueprintSpec } from "../model/blueprint-spec.ts";

/**
 * In a request: whether its operation is live is to be told. In the answer, if it is: the seconds after which it is to run
 * again whatever happens, or 0.
 */
export const liveHeader = "rowhouse-live";
/** Its value in a request that may be no mutation. */
export const liveQueriesOnly = "query";

/** Limits for an operation. */
export interface OperationLimits {
  /** Number of fields; fragments count wherever they are spread. */
  readonly fields: number;
  /** Nesting depth of selections. */
  readonly depth: number;
  /** Number of values in a request's variables, including lists and objects. */
  readonly variables: number;
  /** Nesting depth of lists and objects in the variables. */
  readonly variablesDepth: number;
  readonly introspection: boolean;
}

/** Where to connect, and with how many connections. */
export interface PoolSetup {
  readonly url: string;
  readonly poolSize: number;
  /** Connections beyond `poolSize`, each opened only for a tenant that holds none. */
  readonly poolReserve: number;
  /** By default never. */
  readonly renewAfter?: RenewAfter | undefined;
}

/** What a connection may have seen before it is replaced by a new one; 0: without limit. */
export interface RenewAfter {
  readonly tenants: number;
  readonly ageMs: number;
  /** Of its backend, where PostgreSQL tells. */
  readonly memoryMb: number;
}

export type RenewalReason = "tenants" | "age" | "memory";
export type RenewalCounts = Readonly<Record<RenewalReason, number>>;

/** Fixed for the lifetime of a thread; passed as `workerData`. */
export interface CellSetup {
  readonly cell: CellId;
  /** Used as `application_name`, so that the backends of a terminated cell can be found and terminated. */
  readonly applicationName: string;
  readonly databases: Readonly<Record<string, PoolSetup>>;
  /** URL of the user's preset module, which is loaded only in threads. */
  readonly preset: string | null;
  /** Request headers that are part of the client's identity, in lower case. */
  readonly requestHeaders: readonly string[];
  readonly graphiql: boolean;
  /** Whether queries may be `@live`; absent: no. */
  readonly realtime?: boolean;
  readonly production: boolean;
  readonly resultBytes: number;
  readonly operations: OperationLimits;
  /** PostgreSQL's `statement_timeout`. */
  readonly statementTimeoutMs: number;
  /** What becomes of each patch into a dependency: decided once for the process. */
  readonly patches: PatchStates;
  /** One byte per request slot: set to 1 before anything that may commit is sent. Read after a thread's death. */
  readonly ledger: SharedArrayBuffer;
}

export interface OpenTask {
  readonly kind: "open";
  readonly port: MessagePort;
}

export interface BuildTask {
  readonly kind: "build";
  /** Identifies the instance: the same key may be rebuilt while its predecessor is still draining. */
  readonly instance: number;
  readonly spec: BlueprintSpec;
}

export interface ReleaseTask {
  readonly kind: "release";
  readonly instance: number;
}

export interface RequestTask {
  readonly kind: "request";
  /** Unique in the cell while the request runs; also its index in the ledger. */
  readonly slot: number;
  readonly instance: number;
  /** JSON of a TenantBinding. */
  readonly binding: string;
  /** Transaction settings, `role` first; values are text. */
  readonly settings: Readonly<Record<string, string>>;
  /** JSON of a TokenSigning, parsed only to sign a token; null if the tenant has no signing secret. */
  readonly signing: string | null;
  readonly method: string;
  /** The request path without the routing prefix. */
  readonly path: string;
  /** The routing prefix that was removed, such as `/t/acme`; GraphiQL's URLs start with it. */
  readonly basePath: string;
  readonly query: string;
  readonly headers: Readonly<Record<string, string>>;
  /** A string: cloning a buffer takes longer, and its memory is outside the heap. */
  readonly body: string | null;
}

/** Sent over the same port as requests, which keeps order: a cancel never overtakes its request. */
export interface CancelTask {
  readonly kind: "cancel";
  readonly slot: number;
}

/**
 * Carries a number of its own, which its reply repeats: a late reply is never mistaken for that of another
 * request in the same slot.
 */
export interface NumberedTask {
  readonly kind: "numbered";
  readonly number: number;
  /** Whether it may run interleaved with others, because its tenant's requests have been cheap so far. */
  readonly together: boolean;
  readonly task: RequestTask;
}

/** Messages on the thread's port, many at a time; see `src/fleet/cell/channel.ts`. */
export type LaneTask = NumberedTask | CancelTask;

/** Tasks that Piscina carries. */
export type CellTask = OpenTask | BuildTask | ReleaseTask;

/** An error as plain data: a structured clone of an Error drops its code. */
export interface WireError {
  readonly code: ErrorCode;
  readonly message: string;
  /** For the log only. */
  readonly detail?: string;
  /** PostgreSQL's code, if its error was the cause. */
  readonly state?: string;
  /** Set for a failed guard: the current revisions, as JSON. */
  readonly revisions?: string;
}

export interface BuildReport {
  readonly buildMs: number;
  /** Growth of the thread's heap; null: the next collection will measure it. */
  readonly heapBytes: number | null;
  /** Memory in use at the end of the build, including garbage and external memory. */
  readonly usedBytes: number;
  /** The part of it that came since the last measuring collection: an upper bound for everything built since. */
  readonly grownBytes: number;
  readonly types: number;
  /** The parts of the preset that the host ignores, each by name and with the cure. */
  readonly unhonoured: readonly string[];
  /** Patches that did not fit although the versions are known; see `workers/graphile/patching.ts`. */
  readonly unfitPatches: readonly string[];
  /** Plugins of the preset that may read more of the catalogue than the core shape covers. */
  readonly unknownPlugins: readonly string[];
}

export type Answer =
  | {
      readonly kind: "text";
      readonly status: number;
      readonly headers: Record<string, string>;
      readonly body: string;
    }
  | {
      readonly kind: "bytes";
      readonly status: number;
      readonly headers: Record<string, string>;
      readonly body: Uint8Array;
    }
  | {
      readonly kind: "stream";
      readonly status: number;
      readonly headers: Record<string, string>;
      readonly port: MessagePort;
    };

/** Every task is answered with a reply; a thrown error is a crash. */
export type Reply<Value> =
  | { readonly ok: true; readonly value: Value }
  | { readonly ok: false; readonly error: WireError };

/** The reply to the request with that number. */
export interface NumberedReply {
  readonly number: number;
  readonly reply: Reply<Answer>;
}

/** Requests or replies as encoded by `codec.ts`. */
export type Encoded = readonly unknown[];

/** Front → thread, over the thread's port. */
export type ControlMessage =
  | { readonly kind: "tasks"; readonly encoded: Encoded }
  /** `contended`: whether requests wait in the front for others to leave the thread or to be `parked`. */
  | { readonly kind: "ping"; readonly contended: boolean }
  /** Requests wait in the front, until a ping says otherwise. */
  | { readonly kind: "contended" }
  | { readonly kind: "collect"; readonly sequence: number };

/**
 * Tenants, each followed by the milliseconds for which it kept the thread busy since the previous message:
 * `["acme", 1.5, "globex", 0.2]`.
 */
export type BusyTimes = readonly (string | number)[];

export interface PoolFigures {
  readonly total: number;
  readonly idle: number;
  /** Counts requests, not connections. */
  readonly waiting: number;
  /** The part of `total` beyond `poolSize`. */
  readonly reserve: number;
}

/** Thread → front, over the thread's port. */
export type CellMessage =
  | { readonly kind: "replies"; readonly encoded: Encoded; readonly busy: BusyTimes }
  /**
   * All requests up to that number have been started; those without an answer wait for something other than
   * the thread. Sent only while requests wait in the front.
   */
  | { readonly kind: "parked"; readonly upTo: number; readonly busy: BusyTimes }
  | {
      readonly kind: "pong";
      /** Connections of this thread, summed over all databases. */
      readonly connections: PoolFigures;
      /** Transactions that asserted their revisions since the previous pong. */
      readonly guardChecks: number;
      /** Connections that were renewed since the previous pong. */
      readonly renewals: RenewalCounts;
      /** Databases that refused its writes as read-only and still do. */
      readonly readOnly: readonly string[];
    }
  | {
      readonly kind: "collected";
      readonly sequence: number;
      readonly heapUsedBytes: number;
      /** Sizes of the instances built since the previous collection. */
      readonly measured: readonly { readonly instance: number; readonly heapBytes: number }[];
    }
  | {
      readonly kind: "log";
      readonly level: "debug" | "info" | "warn" | "error";
      /** An excerpt. */
      readonly message: string;
      /** The tenant whose request ran. */
      readonly tenant?: TenantId;
      /** Number of messages of this kind that were suppressed before this one. */
      readonly leftOut?: number;
    };
