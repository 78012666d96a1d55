/** The one error class and the one table of what each code means to a client, a retry and a log. */

interface ErrorRule {
  readonly status: number;
  /** Whether the same request may succeed a moment later: such answers carry Retry-After. */
  readonly retryable: boolean;
  readonly level: "debug" | "info" | "warn" | "error";
  /** What a client is told. `undefined`: the error's own message, which therefore never holds a secret. */
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
  NOT_FOUND: rule(404, "debug", "There is nothing at this address, or of this name."),
  TOKEN_INVALID: rule(401, "info", "The token does not verify for this tenant."),
  TOKEN_EXPIRED: rule(401, "info", "The token has expired."),
  /** What would tell does not answer, such as the keys of a JWKS: the token may well be good. */
  TOKEN_UNVERIFIABLE: rule(503, "error", "The token cannot be verified at the moment.", true),
  TOKEN_REQUIRED: rule(401, "debug", "A bearer token is required."),
  UNAUTHORIZED: rule(401, "warn", "A valid bearer token is required."),
  CROSS_SITE: rule(403, "warn", "Another site's page may not send this."),
  TOO_MANY_FAILURES: rule(429, "warn", "Too many failed attempts came from this address."),
  EXPECTATION_FAILED: rule(417, "debug", "Nothing but 100-continue can be expected here."),
  METHOD_NOT_ALLOWED: rule(405, "debug", "The method is not supported here."),
  BODY_TOO_LARGE: rule(413, "info"),
  DEADLINE: rule(408, "info", "The request took longer than it may."),
  /** The message names those that may be. */
  MEDIA_TYPE: rule(415, "debug"),
  BAD_REQUEST: rule(400, "debug"),
  /** The message names the limit. */
  OPERATION_TOO_COMPLEX: rule(400, "debug"),
  /** The message names the limit. */
  VARIABLES_TOO_LARGE: rule(400, "debug"),
  INTROSPECTION_DISABLED: rule(400, "debug", "Introspection is off here."),
  /** PostgreSQL refused a migration's SQL, and nothing of it stands; the message is PostgreSQL's. */
  MIGRATION_FAILED: rule(400, "warn"),
  SCHEMA_CHANGED: rule(409, "warn", "The schema changed while the request ran."),
  /** A tenant's roles could do more than they should, and the config says to refuse that; the log says what. */
  ROLE_UNSAFE: rule(500, "error", "This tenant is not served: its database roles are not safe."),
  RESULT_TOO_LARGE: rule(500, "warn"),
  /** PostgreSQL ended a statement: it ran longer than it may, or was cancelled by hand. */
  STATEMENT_TIMEOUT: rule(500, "info", "The database took longer than it may."),
  /** A migration gave up waiting for a lock; nothing of it stands. */
  LOCK_TIMEOUT: rule(503, "warn", undefined, true),
  BUILD_QUEUE_FULL: rule(503, "warn", "Too many schemas are waiting to be built.", true),
  BUILD_TIMEOUT: rule(503, "error", "The schema took too long to build.", true),
  BUILD_HELD: rule(
    503,
    "warn",
    "The worker of this schema ended repeatedly; it is held back for a moment.",
    true,
  ),
  /** At debug: whoever asks too much is not given the log as well. */
  TENANT_BUSY: rule(503, "debug", "This tenant has too many requests under way.", true),
  /**
   * One client has all the connections, or requests under way, that it may have. 429 rather than 503: it is the client's doing,
   * and a balancer that counts 503s would take the host for ill.
   */
  ADDRESS_BUSY: rule(429, "debug", "Too many connections or requests under way from this address."),
  SERVER_BUSY: rule(503, "debug", "The server has as many connections as it can serve.", true),
  NO_CAPACITY: rule(503, "warn", "There is no room for this schema at the moment.", true),
  CELL_LOST: rule(503, "error", "The worker serving this request was lost.", true),
  DATABASE_UNREACHABLE: rule(503, "error", "The database cannot be reached.", true),
  /** Nothing of the request's write stands. */
  DATABASE_READ_ONLY: rule(503, "error", "The database takes no writes at the moment.", true),
  SHUTTING_DOWN: rule(503, "info", "The server is shutting down.", true),
  BUILD_FAILED: rule(500, "error", "The schema could not be built."),
  /** Internal to the host: a pooled instance turned out unsafe to share, as it was built or later. The decision becomes dedicated. */
  BUILD_NOT_SHAREABLE: rule(500, "warn", "The schema could not be built."),
  /** A preset, or a plugin, sets a setting of PostgreSQL's that is the host's to set; the message names it, and what to do. */
  SETTING_RESERVED: rule(500, "error"),
  INTERNAL: rule(500, "error", "An unexpected error occurred."),
  CONFIG_INVALID: rule(500, "error"),
  /** The embedded PostgreSQL cannot run here; the message says what to do. */
  EMBEDDED_UNAVAILABLE: rule(500, "error"),
  /** The client went away; nobody reads the answer. 499 is nginx's number for it. */
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
 * An error with a code of the table. `message` is for the log, and for the client where the table has no public
 * text: it holds no token, URL credential or SQL value.
 */
export class HostError<Code extends ErrorCode = ErrorCode> extends Error {
  override readonly name = "HostError";
  readonly code: Code;
  /** When to try again, where the thrower knows better than the code alone tells. */
  readonly retryAfterSeconds: number | undefined;
  /** A word that tells errors of one code apart in the log; no client is told. */
  readonly reason: string | undefined;
  /** Facts that a client is told beside the text. */
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

/** `error` where it is a HostError, else an `INTERNAL` one that has it as its cause. */
export function toHostError(error: unknown): HostError {
  if (error instanceof HostError) return error;
  return new HostError("INTERNAL", messageOf(error), { cause: error });
}

/** What `error` says, whatever it is: plugins throw what they like, and not everything can be made a text. */
export function messageOf(error: unknown): string {
  try {
    return String(error instanceof Error ? error.message : error);
  } catch {
    return "something that cannot be shown";
  }
}

/** The code that `error` has as a text: an SQLSTATE of PostgreSQL's, a name of Node's; undefined where it has none. */
export function codeOf(error: unknown): string | undefined {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : undefined;
}

/** For the end of a switch over a union: does not compile while a case is missing. */
export function unreachable(value: never): never {
  throw new HostError("INTERNAL", `unexpected value ${JSON.stringify(value)}`);
}
