/** What the front and a cell's thread say to each other. Everything here survives a structured clone. */
import type { MessagePort } from "node:worker_threads";
import type { ErrorCode } from "../kernel/errors.ts";
import type { CellId, InstanceKey, TenantId } from "../kernel/ids.ts";
import type { PatchStates } from "../kernel/patch-policy.ts";

/** A served schema: the name that the API knows, and the tenant's schema in PostgreSQL. */
export interface SchemaBinding {
  readonly logical: string;
  readonly physical: string;
}

/**
 * An object that bare names do not find, and that seems to be no part of the API: a pooled instance leaves it out, once its build has proven
 * that nothing of the API goes with it.
 */
export interface LeftOutObject {
  readonly kind: "relation" | "type" | "function";
  readonly oid: string;
  /** In PostgreSQL. */
  readonly schema: string;
  readonly name: string;
  /** Why no pooled instance can have it, and what to do about that. */
  readonly reason: string;
}

/** All that a thread needs to build an instance. A pooled one is built on the schemas of the tenant that asked first. */
export interface BlueprintSpec {
  readonly key: InstanceKey;
  readonly kind: "pooled" | "dedicated";
  readonly tenant: TenantId;
  readonly database: string;
  readonly schemas: readonly SchemaBinding[];
  readonly sharedSchemas: readonly string[];
  /** Named sets of settings that choose between variants of a build. */
  readonly api: string | null;
  readonly mode: string | null;
  readonly settings: Readonly<Record<string, string | boolean>>;
  /** How many tables' rows the shape covers (`@enum`); a pooled build that reads more is refused. */
  readonly enumTables: number;
  /** Why no build can succeed, where the rows of an enum table are why; null otherwise. */
  readonly enumFault: string | null;
  /** Empty in a dedicated instance. */
  readonly leftOut: readonly LeftOutObject[];
  /** The roles of the tenant, in the order in which they are asked for rows that the connecting role may not read. */
  readonly readers: readonly string[];
}

/** What a tenant's transactions prove: that each schema is still at the revision that the request was routed by. */
export interface TenantGuard {
  /** Whether reads prove it too. */
  readonly reads: boolean;
  readonly schemas: readonly string[];
  /** In the order of `schemas`; as text, since a bigint does not fit a number. */
  readonly revisions: readonly string[];
  /** The key of the tenant's advisory lock, a bigint as text. It is a secret: it goes into no log, and into statements as a parameter. */
  readonly lock: string;
}

/**
 * Everything of a tenant that a request needs inside a thread; never closed over at build. It travels as JSON, the same text
 * with every request of a decision: a thread reads each text once, and copying one costs 3 µs less than an object in objects.
 */
export interface TenantBinding {
  readonly tenant: TenantId;
  /** Physical schemas in order, then the shared ones; `pg_temp` is added by the adaptor. */
  readonly searchPath: readonly string[];
  /** Short text that differs whenever path or revisions do; it goes into statement names. */
  readonly statementTag: string;
  /** The roles that a request of this tenant may take. */
  readonly roles: readonly string[];
  /** Whether a function of the tenant's could leave a statement of its own prepared on a connection. */
  readonly prepares: boolean;
  /** Whether a function of the tenant's could notify others in a read, which then has to be committed. */
  readonly notifies: boolean;
  /** Null where the guard is off or the database keeps no revisions. */
  readonly guard: TenantGuard | null;
}

/** What an operation may ask for. */
export interface OperationLimits {
  /** Fields, fragments counted where they are spread. */
  readonly fields: number;
  /** Selections inside one another. */
  readonly depth: number;
  /** Values in the variables of a request, lists and objects counted as well. */
  readonly variables: number;
  /** Lists and objects inside one another there. */
  readonly variablesDepth: number;
  readonly introspection: boolean;
}

/** How the tokens of a request's tenant are signed. It holds that tenant's secret, and is let go of with the request. */
export interface TokenSigning {
  readonly secret: string;
  readonly algorithm: string;
  readonly audience: string;
  readonly issuer: string | null;
  /** The claim that holds the tenant's id. */
  readonly tenantClaim: string | null;
  /** For a token that says no `exp` itself. */
  readonly expiresInSeconds: number;
}

/** Where to connect to, and with how many connections. */
export interface PoolSetup {
  readonly url: string;
  readonly poolSize: number;
  /** Connections beyond `poolSize`, each opened for a tenant that holds none. */
  readonly poolReserve: number;
}

/** What is fixed for the life of a thread; passed as `workerData`. */
export interface CellSetup {
  readonly cell: CellId;
  /** Goes into `application_name`, so that a terminated cell's backends can be found and cancelled. */
  readonly applicationName: string;
  readonly databases: Readonly<Record<string, PoolSetup>>;
  /** URL of the user's preset module, loaded only in threads. */
  readonly preset: string | null;
  /** Headers of a request that are part of who asks, in lower case. */
  readonly requestHeaders: readonly string[];
  readonly graphiql: boolean;
  readonly production: boolean;
  readonly resultBytes: number;
  readonly operations: OperationLimits;
  /** PostgreSQL's own end of a statement that runs on. */
  readonly statementTimeoutMs: number;
  /** What becomes of each patch into a dependency: decided once for the process. */
  readonly patches: PatchStates;
  /** One byte per request slot: set to 1, before it is sent, by whatever may commit. Read after a thread's death. */
  readonly ledger: SharedArrayBuffer;
}

export interface OpenTask {
  readonly kind: "open";
  readonly port: MessagePort;
}

export interface BuildTask {
  readonly kind: "build";
  /** The instance's identity: the same key may be built anew while its predecessor is still draining. */
  readonly instance: number;
  readonly spec: BlueprintSpec;
}

export interface ReleaseTask {
  readonly kind: "release";
  readonly instance: number;
}

export interface RequestTask {
  readonly kind: "request";
  /** Unique in the cell while the request runs; also its place in the ledger. */
  readonly slot: number;
  readonly instance: number;
  /** JSON of a TenantBinding. */
  readonly binding: string;
  /** Settings of the transaction, `role` first among them; values are text. */
  readonly settings: Readonly<Record<string, string>>;
  /** JSON of a TokenSigning, read only where a token is signed; null where the tenant has no secret to sign with. */
  readonly signing: string | null;
  readonly method: string;
  /** Without the routing prefix. */
  readonly path: string;
  /** The routing prefix that was taken off, such as `/t/acme`; GraphiQL's addresses begin with it. */
  readonly basePath: string;
  readonly query: string;
  readonly headers: Readonly<Record<string, string>>;
  /** As text: the clone of a buffer takes longer, and its memory is not the heap's. */
  readonly body: string | null;
}

/** On the way of the request itself, which keeps their order: a cancel never overtakes what it is meant for. */
export interface CancelTask {
  readonly kind: "cancel";
  readonly slot: number;
}

/** Under a number of its own, which its reply bears too: whatever may be in its slot by then, no other takes it for its own. */
export interface NumberedTask {
  readonly kind: "numbered";
  readonly number: number;
  /** Whether it may run interleaved with others: its tenant's requests have taken little of the thread so far. */
  readonly together: boolean;
  readonly task: RequestTask;
}

/** What comes over the thread's port, many at a time; see `src/fleet/cell/channel.ts`. */
export type LaneTask = NumberedTask | CancelTask;

/** What Piscina carries. */
export type CellTask = OpenTask | BuildTask | ReleaseTask;

/** An error as plain data: a structured clone of an Error drops its code. */
export interface WireError {
  readonly code: ErrorCode;
  readonly message: string;
  /** For the log only. */
  readonly detail?: string;
  /** Of a failed guard: where the schemas have moved to, as JSON. */
  readonly revisions?: string;
}

export interface BuildReport {
  readonly buildMs: number;
  /** What the thread's heap grew by; null: the next collection tells. */
  readonly heapBytes: number | null;
  /** In use at its end, garbage and external memory included. */
  readonly usedBytes: number;
  /** Of that, what came since the last collection that measured: more than all take that are built since. */
  readonly grownBytes: number;
  readonly types: number;
  /** What of the preset the host does not go by, each by its name and with the cure. */
  readonly unhonoured: readonly string[];
  /** Patches that did not fit although the versions are known; see `workers/graphile/patching.ts`. */
  readonly unfitPatches: readonly string[];
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

/** Every task is answered with one of these; a thrown error is a crash. */
export type Reply<Value> =
  | { readonly ok: true; readonly value: Value }
  | { readonly ok: false; readonly error: WireError };

/** The reply to the request of that number. */
export interface NumberedReply {
  readonly number: number;
  readonly reply: Reply<Answer>;
}

/** Requests or replies as `parcel.ts` packs them. */
export type Encoded = readonly unknown[];

/** Over the thread's port, front → thread. */
export type ControlMessage =
  | { readonly kind: "tasks"; readonly encoded: Encoded }
  /** Whether requests wait in the front for others to leave the thread or to be `parked`. */
  | { readonly kind: "ping"; readonly contended: boolean }
  /** They do, from now on until a ping says otherwise. */
  | { readonly kind: "contended" }
  | { readonly kind: "collect"; readonly sequence: number };

/** Tenants, and for how many milliseconds each kept the thread busy since the message before, in turn: `["acme", 1.5, "globex", 0.2]`. */
export type BusyTimes = readonly (string | number)[];

export interface PoolFigures {
  readonly total: number;
  readonly idle: number;
  /** Requests, not connections. */
  readonly waiting: number;
  /** Of the total, those beyond `poolSize`. */
  readonly reserve: number;
}

/** Over the thread's port, thread → front. */
export type CellMessage =
  | { readonly kind: "replies"; readonly encoded: Encoded; readonly busy: BusyTimes }
  /** All requests up to that number have been taken up; those without an answer wait for something else than the thread. Said while requests wait in the front. */
  | { readonly kind: "parked"; readonly upTo: number; readonly busy: BusyTimes }
  | {
      readonly kind: "pong";
      /** Connections of this thread, over all databases. */
      readonly connections: PoolFigures;
      /** Transactions that proved their revisions, since the pong before. */
      readonly guardChecks: number;
      /** Databases that refused its writes, and still do. */
      readonly readOnly: readonly string[];
    }
  | {
      readonly kind: "collected";
      readonly sequence: number;
      readonly heapUsedBytes: number;
      /** What those take that were built since the collection before. */
      readonly measured: readonly { readonly instance: number; readonly heapBytes: number }[];
    }
  | {
      readonly kind: "log";
      readonly level: "debug" | "info" | "warn" | "error";
      /** An excerpt. */
      readonly message: string;
      /** Whose request ran. */
      readonly tenant?: TenantId;
      /** How many of its kind were left out before. */
      readonly leftOut?: number;
    };
