/** The admin app: probes, metrics, status, and operations on tenants, instances and cells. */
import { createHash, timingSafeEqual } from "node:crypto";
import type { HttpBindings } from "@hono/node-server";
import { type Context, Hono } from "hono";
import type { z } from "zod";
import type { Observe } from "../../observability/observation.ts";
import { HostError, toHostError } from "../../shared/kernel/errors.ts";
import { renderFailure } from "../error-response.ts";
import { readBody } from "../read-body.ts";
import { announcesBody, readFacts, readRequestId, requireMediaType } from "../request-head.ts";
import { AuthThrottle } from "./auth-throttle.ts";
import {
  type AdminOperations,
  adminMethods,
  adminPaths,
  evictTarget,
  migrateRequest,
  nothing,
} from "./contract.ts";

export interface AdminDeps {
  readonly operations: AdminOperations;
  readonly token: string | null;
  metricsText(): Promise<{ readonly contentType: string; readonly text: string }>;
  readonly observe: Observe;
}

type Env = { Bindings: HttpBindings; Variables: { requestId: string } };
export type AdminApp = Hono<Env>;

const bodyLimitBytes = 64 * 1024;
/** SQL that inserts rows may be long. */
const migrateLimitBytes = 4 * 1024 * 1024;
const jsonOnly: ReadonlySet<string> = new Set(["application/json"]);

/**
 * The app for `serveApp`. The two probes are open to all, because they reveal nothing and whoever probes holds no secrets. Everything else
 * needs the bearer token if one is configured, and otherwise a client and a Host header of this machine. An address that
 * sends wrong tokens too often is refused for the rest of the minute.
 */
export function createAdminApp({ operations, token, metricsText, observe }: AdminDeps): AdminApp {
  const app: AdminApp = new Hono();

  app.onError((thrown, context) => renderError(thrown, context, observe));
  app.notFound(() => {
    throw new HostError("NOT_FOUND");
  });

  app.use(async (context, next) => {
    context.set("requestId", readRequestId(context.env.incoming));
    // By now the URL has been normalised, so a path that a proxy may read differently is refused in its original form.
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
  app.get(adminPaths.metrics, async () => {
    const { contentType, text } = await metricsText();
    return new Response(text, { headers: { "content-type": contentType, ...always } });
  });
  app.get(adminPaths.status, () => json(operations.status()));
  app.get(adminPaths.tenant, async ({ req }) => json(await operations.tenant(req.param("id"))));
  app.post(adminPaths.evict, async ({ env }) =>
    json(await operations.evict(await readJson(env, evictTarget))),
  );
  app.post(adminPaths.flush, async ({ env }) => {
    if (!isBareCommand(env)) await readJson(env, nothing);
    return json(await operations.flush());
  });
  app.post(adminPaths.migrate, async ({ env, req }) => {
    const request = await readJson(env, migrateRequest, migrateLimitBytes);
    return json(await operations.migrate(req.param("id"), request));
  });
  for (const [allow, paths] of Object.entries(adminMethods)) {
    app.on("ALL", paths, ({ var: { requestId } }) => {
      const { status, headers, body } = renderFailure(new HostError("METHOD_NOT_ALLOWED"), requestId);
      return new Response(body, { status, headers: { ...headers, allow } });
    });
  }
  return app;
}

/** Renders what was thrown for the client; observes the host's own failures, and refused attempts. */
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

/** Whether the host is alive, and whether it should be sent requests. */
function addProbes(app: AdminApp, operations: AdminOperations): void {
  const probe =
    (answer: () => boolean, note = (): string => "") =>
    (context: Context<Env>) =>
      answer() ? context.text(`ok${note()}`) : context.text("not ready", 503);
  app.get(
    adminPaths.healthz,
    probe(() => operations.health()),
  );
  app.get(
    adminPaths.readyz,
    // Reads still work: a load balancer that took every host out of service would end those too.
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

/** Reads a body that must be JSON, which a form on another site's page, sent by a visitor's browser, cannot be. */
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

/** Whether a request has no body and cannot come from a web page, because browsers would say where the page came from. */
function isBareCommand({ incoming }: HttpBindings): boolean {
  const { headers } = incoming;
  const marks = ["content-type", "origin", "referer", "sec-fetch-site"];
  return !announcesBody(incoming) && marks.every((name) => headers[name] === undefined);
}

/** Throws `CROSS_SITE` for what, by the browser's word, another site's page has sent, whatever its media type. */
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

/** Compares hashes: they are equally long whatever is sent, and the time does not tell how much of a guess was right. */
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
/** Against DNS rebinding: a web page may make its own name resolve to 127.0.0.1, but cannot change the Host header. */
const loopbackHost = /^(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d{1,5})?$/i;

/** Headers that proxies add. A proxy on this machine passes on requests of others. */
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
  // By default nginx speaks HTTP/1.0 to the servers behind it, with a Host header of its own.
  const proxied =
    incoming.httpVersionMinor === 0 || proxyMarks.some((name) => incoming.headers[name] !== undefined);
  if (!isLocal || proxied) throw new HostError("UNAUTHORIZED");
}
