/** The admin app: probes, metrics, status, and what an operator may do to tenants, instances and cells. */
import { createHash, timingSafeEqual } from "node:crypto";
import type { HttpBindings } from "@hono/node-server";
import { type Context, Hono } from "hono";
import { z } from "zod";
import type { Observe } from "../../observability/observation.ts";
import { HostError, toHostError } from "../../shared/kernel/errors.ts";
import { renderFailure } from "../error-response.ts";
import { readBody } from "../read-body.ts";
import { announcesBody, readFacts, readRequestId, requireMediaType } from "../request-head.ts";
import { AuthThrottle } from "./auth-throttle.ts";

export interface EvictTarget {
  readonly key?: string;
  readonly cell?: string;
  readonly tenant?: string;
}

export interface MigrateRequest {
  readonly sql: string;
  readonly expect?: string;
}

/** What the admin app asks of the host. Each may reject with a HostError; the results are rendered as JSON. */
export interface AdminOperations {
  health(): boolean;
  ready(): boolean;
  /** Whether a database takes no writes at the moment. */
  readOnly(): boolean;
  status(): unknown;
  /** Rejects with `TENANT_UNKNOWN` where there is none. */
  tenant(id: string): Promise<unknown>;
  evict(target: EvictTarget): Promise<unknown>;
  flush(): Promise<unknown>;
  /** Rejects with `SCHEMA_CHANGED` and the current shape where `expect` is another. */
  migrate(id: string, request: MigrateRequest): Promise<unknown>;
}

export interface AdminDeps {
  readonly operations: AdminOperations;
  readonly token: string | null;
  metricsText(): Promise<{ readonly contentType: string; readonly text: string }>;
  readonly observe: Observe;
}

type Env = { Bindings: HttpBindings; Variables: { requestId: string } };
export type AdminApp = Hono<Env>;

/** What may be done at each address, for `Allow`. */
const methods = {
  "GET, HEAD": ["/healthz", "/readyz", "/metrics", "/status", "/tenants/:id"],
  POST: ["/evict", "/flush", "/tenants/:id/migrate"],
};

const bodyLimitBytes = 64 * 1024;
/** SQL may be long, where it brings rows. */
const migrateLimitBytes = 4 * 1024 * 1024;
const jsonOnly: ReadonlySet<string> = new Set(["application/json"]);

/**
 * The app for `listen`. The two probes are open, since they tell nothing and those who probe hold no secrets; all
 * else needs the bearer token where there is one, and without one a client and a Host header of this machine. An address
 * that brings wrong tokens is not listened to for the rest of the minute.
 */
export function createAdminApp({ operations, token, metricsText, observe }: AdminDeps): AdminApp {
  const app: AdminApp = new Hono();

  app.onError((thrown, context) => renderError(thrown, context, observe));
  app.notFound(() => {
    throw new HostError("NOT_FOUND");
  });

  app.use(async (context, next) => {
    context.set("requestId", readRequestId(context.env.incoming));
    // Its URL has been normalised by now: a path that a proxy in front reads in another way is refused as it came.
    readFacts(context.env.incoming);
    await next();
  });
  addProbes(app, operations);

  const assertAllowed = token === null ? assertLocal : bearerCheck(token);
  app.use(async ({ env }, next) => {
    assertAllowed(env);
    if (env.incoming.method !== "GET") assertSameSite(env);
    await next();
  });
  app.get("/metrics", async () => {
    const { contentType, text } = await metricsText();
    return new Response(text, { headers: { "content-type": contentType, ...always } });
  });
  app.get("/status", () => json(operations.status()));
  app.get("/tenants/:id", async ({ req }) => json(await operations.tenant(req.param("id"))));
  app.post("/evict", async ({ env }) => json(await operations.evict(await readJson(env, evictTarget))));
  app.post("/flush", async ({ env }) => {
    if (!isBareCommand(env)) await readJson(env, nothing);
    return json(await operations.flush());
  });
  app.post("/tenants/:id/migrate", async ({ env, req }) => {
    const request = await readJson(env, migrateRequest, migrateLimitBytes);
    return json(await operations.migrate(req.param("id"), request));
  });
  for (const [allow, paths] of Object.entries(methods)) {
    app.on("ALL", paths, ({ var: { requestId } }) => {
      const { status, headers, body } = renderFailure(new HostError("METHOD_NOT_ALLOWED"), requestId);
      return new Response(body, { status, headers: { ...headers, allow } });
    });
  }
  return app;
}

/** What the client is told of what was thrown; whoever runs the host is told of what is the host's own fault, and of whom it has refused. */
function renderError(
  thrown: unknown,
  { env, req, var: { requestId } }: Context<Env>,
  observe: Observe,
): Response {
  const error = toHostError(thrown);
  if (error.status >= 500) observe({ kind: "request.failed", requestId, code: error.code, error });
  if (error.code === "UNAUTHORIZED" || error.code === "CROSS_SITE") {
    const remoteAddress = env.incoming.socket.remoteAddress ?? "";
    observe({ kind: "admin.refused", requestId, code: error.code, remoteAddress, path: req.path });
  }
  const { status, headers, body } = renderFailure(error, requestId);
  return new Response(body, { status, headers });
}

/** Whether the host is alive, and whether it is to be sent requests. */
function addProbes(app: AdminApp, operations: AdminOperations): void {
  const probe =
    (answer: () => boolean, note = (): string => "") =>
    (context: Context<Env>) =>
      answer() ? context.text(`ok${note()}`) : context.text("not ready", 503);
  app.get(
    "/healthz",
    probe(() => operations.health()),
  );
  app.get(
    "/readyz",
    // Reads go on: a balancer that took every host out would end them as well.
    probe(
      () => operations.ready(),
      () => (operations.readOnly() ? ", but writes are refused: a database is read-only" : ""),
    ),
  );
}

const always = {
  "cache-control": "no-store",
  "x-content-type-options": "nosniff",
  "cross-origin-resource-policy": "same-origin",
} as const;

function json(value: unknown): Response {
  return Response.json(value, { headers: always });
}

const text = z.string().min(1).max(200);
const evictTarget = z
  .strictObject({ key: text.exactOptional(), cell: text.exactOptional(), tenant: text.exactOptional() })
  .refine((target) => Object.keys(target).length === 1, "exactly one of key, cell and tenant is required");
const migrateRequest = z.strictObject({
  // PostgreSQL's text cannot hold it.
  sql: z
    .string()
    .min(1)
    .refine((sql) => !sql.includes("\0") && sql.isWellFormed(), "contains a NUL or an unpaired surrogate"),
  expect: text.exactOptional(),
});
const nothing = z.strictObject({});

/** A body that must be JSON: a form on some web page, sent by a visitor's browser, can not be that. */
async function readJson<Value>(
  env: HttpBindings,
  schema: z.ZodType<Value>,
  limitBytes = bodyLimitBytes,
): Promise<Value> {
  requireMediaType(env.incoming, jsonOnly);
  const body = await readBody(env, limitBytes);
  const parsed = schema.safeParse(body === "" ? {} : parseJson(body));
  if (parsed.success) return parsed.data;
  const faults = parsed.error.issues.map(({ path, message }) => [...path, message].join(": "));
  throw new HostError("BAD_REQUEST", `The body is invalid: ${faults.join("; ")}`);
}

/** Nothing is said, so nothing need be JSON; what a web page sends says where the page came from. */
function isBareCommand({ incoming }: HttpBindings): boolean {
  const { headers } = incoming;
  const marks = ["content-type", "origin", "referer", "sec-fetch-site"];
  return !announcesBody(incoming) && marks.every((name) => headers[name] === undefined);
}

/** Throws `CROSS_SITE` for what a browser says comes from another site's page, whatever the media type. */
function assertSameSite({ incoming }: HttpBindings): void {
  const { host, origin, "sec-fetch-site": site } = incoming.headers;
  const foreignSite = site !== undefined && site !== "same-origin" && site !== "none";
  const foreignOrigin = origin !== undefined && (host === undefined || URL.parse(origin)?.host !== host);
  if (foreignSite || foreignOrigin) throw new HostError("CROSS_SITE");
}

function parseJson(body: string): unknown {
  try {
    return JSON.parse(body);
  } catch {
    throw new HostError("BAD_REQUEST", "The body is not JSON.");
  }
}

const sha256 = (value: string): Buffer => createHash("sha256").update(value).digest();

/** Compares hashes: equally long whatever is sent, and in a time that does not tell how much of it was right. */
function bearerCheck(token: string): (env: HttpBindings) => void {
  const expected = sha256(token);
  const failures = new AuthThrottle({ most: 10, windowMs: 60_000 });
  return ({ incoming }) => {
    const address = incoming.socket.remoteAddress ?? "";
    failures.assertFew(address);
    const [, given] = /^bearer +(\S+) *$/i.exec(incoming.headers.authorization ?? "") ?? [];
    if (given !== undefined && timingSafeEqual(sha256(given), expected)) return;
    failures.add(address);
    throw new HostError("UNAUTHORIZED");
  };
}

const loopbackAddress = /^(?:::ffff:)?127\.|^::1$/;
/** Against DNS rebinding: a web page may make its own name resolve to 127.0.0.1, but not change the Host header. */
const loopbackHost = /^(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d{1,5})?$/i;

/** A proxy on this machine brings the requests of others. */
const proxyMarks = [
  "forwarded",
  "x-forwarded-for",
  "x-forwarded-host",
  "x-forwarded-proto",
  "x-real-ip",
  "x-client-ip",
  "cf-connecting-ip",
  "via",
];

function assertLocal({ incoming }: HttpBindings): void {
  const { remoteAddress, host } = readFacts(incoming);
  const isLocal = loopbackAddress.test(remoteAddress ?? "") && loopbackHost.test(host ?? "");
  // HTTP/1.0 is what nginx speaks to those behind it where nobody told it more; it sends them a Host header of their own then.
  const proxied =
    incoming.httpVersionMinor === 0 || proxyMarks.some((name) => incoming.headers[name] !== undefined);
  if (!isLocal || proxied) throw new HostError("UNAUTHORIZED");
}
