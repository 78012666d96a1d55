/** The error class, and the table of what each code means for clients, retries and the log. */

interface ErrorRule {
  readonly status: number;
  /** Whether the same request may succeed a moment later; such answers carry Retry-After. */
  readonly retryable: boolean;
  readonly level: "debug" | "info" | "warn" | "error";
  /** The text for the client. `undefined`: the error's own message, which therefore must never hold a secret. */
  readonly publicText: string | undefined;
}

const rule = (
  status: number,
  level: ErrorRule["level"],
  publicText?: string,
  retryable = false,
): ErrorRule => ({ status, level, publicText, retryable });

export const errorTable = {
  TENANT_UNKNOWN: rule(404, "debug", "No tenant matches this request."),
  SCHEMA_NOT_FOUND: rule(404, "warn", "The tenant's schema does not exist."),
  NOT_FOUND: rule(404, "debug", "No such resource."),
  TOKEN_INVALID: rule(401, "info", "The token is not valid for this tenant."),
  TOKEN_EXPIRED: rule(401, "info", "The token has expired."),
  /** The source of verification does not answer, for example a JWKS: the token may well be valid. */
  TOKEN_UNVERIFIABLE: rule(503, "error", "The token cannot be verified at the moment.", true),
  TOKEN_REQUIRED: rule(401, "debug", "A bearer token is required."),
  UNAUTHORIZED: rule(401, "warn", "A valid bearer token is required."),
  CROSS_SITE: rule(403, "warn", "Cross-site requests are not allowed."),
  TOO_MANY_FAILURES: rule(429, "warn", "Too many failed attempts from this address."),
  EXPECTATION_FAILED: rule(417, "debug", "Only 100-continue is supported in the Expect header."),
  METHOD_NOT_ALLOWED: rule(405, "debug", "Method not allowed."),
  BODY_TOO_LARGE: rule(413, "info"),
  DEADLINE: rule(408, "info", "The request exceeded its deadline."),
  /** The message names the supported types. */
  MEDIA_TYPE: rule(415, "debug"),
  BAD_REQUEST: rule(400, "debug"),
  /** The message names the limit. */
  OPERATION_TOO_COMPLEX: rule(400, "debug"),
  /** The message names the limit. */
  VARIABLES_TOO_LARGE: rule(400, "debug"),
  INTROSPECTION_DISABLED: rule(400, "debug", "Introspection is disabled."),
  /** PostgreSQL refused a migration's SQL and nothing was applied; the message is PostgreSQL's. */
  MIGRATION_FAILED: rule(400, "warn"),
  SCHEMA_CHANGED: rule(409, "warn", "The schema changed while the request ran."),
  /**
   * A tenant's roles have privileges that they should not have, and the config refuses that; the log has the
   * details.
   */
  ROLE_UNSAFE: rule(500, "error", "This tenant is not served because its database roles are unsafe."),
  RESULT_TOO_LARGE: rule(500, "warn"),
  /** PostgreSQL ended a statement: it exceeded its time limit, or was cancelled manually. */
  STATEMENT_TIMEOUT: rule(500, "info", "The statement exceeded its time limit."),
  /** A migration gave up waiting for a lock; nothing was applied. */
  LOCK_TIMEOUT: rule(503, "warn", undefined, true),
  BUILD_QUEUE_FULL: rule(503, "warn", "Too many schemas are waiting to be built.", true),
  BUILD_TIMEOUT: rule(503, "error", "The schema took too long to build.", true),
  BUILD_HELD: rule(503, "warn", "This schema's worker crashed repeatedly; retry later.", true),
  /** Logged at debug, so that a tenant that sends too much does not flood the log as well. */
  TENANT_BUSY: rule(503, "debug", "Too many concurrent requests for this tenant.", true),
  /**
   * One client has all the connections, or concurrent requests, that it may have. 429 rather than 503: the
   * client is the cause, and a balancer that counts 503s would consider the host unhealthy.
   */
  ADDRESS_BUSY: rule(429, "debug", "Too many connections or concurrent requests from this address."),
  SERVER_BUSY: rule(503, "debug", "The server has reached its connection limit.", true),
  NO_CAPACITY: rule(503, "warn", "No capacity for this schema at the moment; retry later.", true),
  CELL_LOST: rule(503, "error", "The worker serving this request was lost.", true),
  DATABASE_UNREACHABLE: rule(503, "error", "The database cannot be reached.", true),
  /** Nothing of the request's write was committed. */
  DATABASE_READ_ONLY: rule(503, "error", "The database is read-only at the moment.", true),
  SHUTTING_DOWN: rule(503, "info", "The server is shutting down.", true),
  BUILD_FAILED: rule(500, "error", "The schema could not be built."),
  /** Internal to the host: a pooled instance turned out unsafe to share, as it was built or later. The decision becomes dedicated. */
  BUILD_NOT_SHAREABLE: rule(500, "warn", "The schema could not be built."),
  /** Internal to the host: the preset has plugins that may read more than the core shape covers. The decision goes by the full shape. */
  BUILD_READS_MORE: rule(500, "info", "The schema could not be built."),
  /**
   * A preset or plugin sets a PostgreSQL setting that is reserved for the host; the message names it and the
   * cure.
   */
  SETTING_RESERVED: rule(500, "error"),
  INTERNAL: rule(500, "error", "An unexpected error occurred."),
  CONFIG_INVALID: rule(500, "error"),
  /** The embedded PostgreSQL cannot run here; the message names the cure. */
  EMBEDDED_UNAVAILABLE: rule(500, "error"),
  /** The client disconnected, so nobody reads the answer. 499 is nginx's status for it. */
  CANCELLED: rule(499, "debug", "The request was cancelled."),
} as const satisfies Record<string, ErrorRule>;

export type ErrorCode = keyof typeof errorTable;

export interface HostErrorOptions {
  readonly cause?: unknown;
  readonly retryAfterSeconds?: number;
  readonly details?: Readonly<Record<string, string | number>>;
  readonly reason?: string;
}

/**
 * An error with a code of the table. `message` goes to the log, and to the client if the table has no public
 * text: it holds no token, URL credential or SQL value.
 */
export class HostError<Code extends ErrorCode = ErrorCode> extends Error {
  override readonly name = "HostError";
  readonly code: Code;
  /** When to retry, if the thrower knows better than the code alone tells. */
  readonly retryAfterSeconds: number | undefined;
  /** A word that distinguishes errors of one code in the log; never sent to clients. */
  readonly reason: string | undefined;
  /** Facts sent to the client beside the text. */
  readonly details: Readonly<Record<string, string | number>>;

  constructor(code: Code, message?: string, options: HostErrorOptions = {}) {
    super(message ?? errorTable[code].publicText ?? code, options);
    this.code = code;
    this.retryAfterSeconds = options.retryAfterSeconds;
    this.reason = options.reason;
    this.details = options.details ?? {};
  }

  get status(): number {
    return errorTable[this.code].status;
  }

  get retryable(): boolean {
    return errorTable[this.code].retryable;
  }

  get publicText(): string {
    return errorTable[this.code].publicText ?? this.message;
  }
}

/** Returns `error` if it is a HostError, else an `INTERNAL` one with it as its cause. */
export function toHostError(error: unknown): HostError {
  if (error instanceof HostError) return error;
  return new HostError("INTERNAL", messageOf(error), { cause: error });
}

/**
 * The message of `error`, whatever it is: plugins throw anything, and not every value can be converted to a
 * string.
 */
export function messageOf(error: unknown): string {
  try {
    return String(error instanceof Error ? error.message : error);
  } catch {
    return "(a value that cannot be converted to a string)";
  }
}

/** The string `code` of `error` (a PostgreSQL SQLSTATE or a Node error name); undefined if it has none. */
export function codeOf(error: unknown): string | undefined {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : undefined;
}

/** For the end of a switch over a union: fails to compile while a case is missing. */
export function unreachable(value: never): never {
  throw new HostError("INTERNAL", `unexpected value ${JSON.stringify(value)}`);
}
