import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import S3rver from "@20minutes/s3rver";
import { request } from "undici";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { CellServ } from "../../workers/request/grafserv.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { importing, kitPreset } from "../support/kit-preset.ts";
import { Worker } from "../support/worker-instance.ts";
import { workerTenantSql } from "../support/worker-tenant.ts";

let database: TestDatabase;
let server: S3rver;
let directory: string;
let endpoint: string;
let worker: Worker;
let serv: CellServ;

const credentials = { accessKeyId: "S3RVER", secretAccessKey: "S3RVER" };

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "rowhouse-s3-"));
  const buckets = [{ name: "first" }, { name: "second" }];
  server = new S3rver({ port: 0, address: "127.0.0.1", silent: true, directory, configureBuckets: buckets });
  const { port } = await server.run();
  endpoint = `http://127.0.0.1:${port}`;
  database = await createDatabase("kit_uploads");
  for (const tenant of ["ada", "bob", "carol"]) {
    await database.execute(`${workerTenantSql(tenant)};
      create table ${tenant}.upload (id int primary key); create table ${tenant}.download (id int primary key);
      create function ${tenant}.may_upload() returns boolean stable language sql as $$ select current_setting('jwt.claims.id', true) <> '' $$`);
  }
  // Ada and bob share a bucket and a prefix, carol has a bucket of her own.
  const plugin = `uploads({
    contentTypes: ["image/png", "text/plain"], maxBytes: 1000,
    authorize: async (request, action) => { asked.push([request.tenant, action.kind]);
      return (await request.query("select may_upload() as may"))[0].may; },
    store: async ({ tenant }) => { resolved.push(tenant); return {
      bucket: tenant === "carol" ? "second" : "first", prefix: tenant === "carol" ? "" : "of/all/",
      client: { endpoint: "${endpoint}", region: "us-east-1", credentials: ${JSON.stringify(credentials)}, forcePathStyle: true } }; },
  })`;
  const before = `${importing("uploads")} const asked = globalThis.asked = []; const resolved = globalThis.resolved = [];`;
  worker = new Worker(database, { preset: kitPreset(plugin, before) });
  serv = await worker.build("pooled", { app: "ada" });
});
afterAll(async () => {
  await server.close();
  await rm(directory, { recursive: true, force: true });
  await database.drop();
});

interface Signed {
  readonly key: string;
  readonly url: string;
  readonly method: string;
  readonly headers: readonly { readonly name: string; readonly value: string }[];
  readonly expiresAt: string;
}

const ask = async (tenant: string, query: string, id = "7") => {
  const { json } = await worker.ask(serv, { tenant, query, settings: { role: tenant, "jwt.claims.id": id } });
  return json;
};

const create = (contentType: string, size: number | string): string =>
  `mutation { createUploadUrl(input: { contentType: "${contentType}", size: ${size} }) { key url method headers { name value } expiresAt } }`;
const download = (key: string): string => `{ downloadUrl(key: ${JSON.stringify(key)}) { url expiresAt } }`;

const upload = async (tenant: string, contentType = "text/plain", size = 5): Promise<Signed> =>
  (await ask(tenant, create(contentType, size))).data.createUploadUrl;

const put = async (url: string, headers: Signed["headers"], body: string): Promise<number> => {
  const given = Object.fromEntries(headers.map(({ name, value }) => [name, value]));
  // undici sets the length itself and refuses a different one.
  const { statusCode, body: answer } = await request(url, {
    method: "PUT",
    headers: { ...given, "content-length": String(body.length) },
    body,
  });
  await answer.text();
  return statusCode;
};
const get = async (url: string) => {
  const { statusCode, headers, body } = await request(url);
  const text = await body.text();
  return {
    status: statusCode,
    type: headers["content-type"],
    disposition: headers["content-disposition"],
    text,
  };
};
/** The keys of the server's stored files. */
const keysIn = async (bucket: string): Promise<string[]> => {
  const files = await readdir(join(directory, bucket), { recursive: true });
  return files
    .filter((name) => name.endsWith("_object"))
    .map((name) => name.replace(/\._S3rver_object$/, ""));
};

describe("an upload", () => {
  it("is stored in the store of the request's tenant, below its id, and can be downloaded", async () => {
    for (const [tenant, bucket, place] of [
      ["ada", "first", "of/all/ada/"],
      ["bob", "first", "of/all/bob/"],
      ["carol", "second", "carol/"],
    ] as const) {
      const { key, url, method, headers } = await upload(tenant);
      expect(method).toBe("PUT");
      expect(await put(url, headers, tenant.padEnd(5))).toBe(200);
      expect(await keysIn(bucket)).toContain(place + key);
      const { data } = await ask(tenant, download(key));
      expect(await get(data.downloadUrl.url)).toEqual({
        status: 200,
        type: "text/plain",
        disposition: "attachment",
        text: tenant.padEnd(5),
      });
      // Resolved at the first request, not during the build; once per tenant.
      expect(Reflect.get(globalThis, "resolved").filter((each: string) => each === tenant)).toHaveLength(1);
    }
  });

  it("must have the size and type that were requested", async () => {
    const { key, url, headers } = await upload("ada");
    expect(await put(url, headers, "more than five")).toBe(403);
    expect(await put(url, headers, "less")).toBe(403);
    expect(await put(url, [{ name: "content-type", value: "text/html" }], "12345")).toBe(403);
    expect(await keysIn("first")).not.toContain(`of/all/ada/${key}`);
    expect(await put(url, headers, "12345")).toBe(200);
  });

  it("expires", async () => {
    const { url, expiresAt } = await upload("ada");
    const left = Date.parse(expiresAt) - Date.now();
    expect(left).toBeGreaterThan(200_000);
    expect(left).toBeLessThanOrEqual(300_000);
    expect(new URL(url).searchParams.get("X-Amz-Expires")).toBe("300");
    const later = new URL(url);
    later.searchParams.set("X-Amz-Expires", "600000");
    expect(await put(later.href, [{ name: "content-type", value: "text/plain" }], "12345")).toBe(403);
  });

  it.each([
    ["a type that is not listed", create("text/html", 5), /must be one of image\/png, text\/plain/],
    ["a type with a parameter", create("image/png; x=\\n", 5), /must be one of/],
    ["too much", create("image/png", 1001), /larger than 1000 bytes/],
    ["nothing", create("image/png", 0), /at least one byte/],
    ["a negative size", create("image/png", -1), /at least one byte/],
  ])("is refused for %s", async (_, query, message) => {
    const json = await ask("ada", query);
    expect(json.data).toBeNull();
    expect(json.errors[0].message).toMatch(message);
    expect(json.errors[0].extensions.code).toBe("BAD_REQUEST");
  });

  it("is refused if the preset's authorization, asked in the request's own database role, says no", async () => {
    const json = await ask("ada", create("image/png", 5), "");
    expect(json.data).toBeNull();
    expect(json.errors[0].message).toBe("Not allowed.");
    expect((await ask("ada", download("8f14e45f-ceea-4c1b-8b1e-2a3d4f5a6b7c"), "")).errors[0].message).toBe(
      "Not allowed.",
    );
    expect(Reflect.get(globalThis, "asked").at(-1)).toEqual(["ada", "download"]);
  });
});

describe("another tenant's object", () => {
  it("cannot be reached by editing its key into one's own URL", async () => {
    const own = await upload("bob");
    const other = await upload("ada");
    expect(await put(other.url, other.headers, "ada's")).toBe(200);
    const forged = own.url.replace(`bob/${own.key}`, `ada/${other.key}`);
    expect(forged).toContain(other.key);
    expect(await put(forged, own.headers, "bob's")).toBe(403);
    const { data } = await ask("bob", download(own.key));
    const forgedDownload = data.downloadUrl.url.replace(`bob/${own.key}`, `ada/${other.key}`);
    expect((await get(forgedDownload)).status).toBe(403);
    expect((await get((await ask("ada", download(other.key))).data.downloadUrl.url)).text).toBe("ada's");
  });

  it("cannot be reached by its key, which is looked up below one's own prefix", async () => {
    const other = await upload("ada");
    await put(other.url, other.headers, "ada's");
    const { data } = await ask("bob", download(other.key));
    expect(new URL(data.downloadUrl.url).pathname).toBe(`/first/of/all/bob/${other.key}`);
    expect((await get(data.downloadUrl.url)).status).toBe(404);
  });

  it.each([
    ["a path", (key: string) => `../ada/${key}`],
    ["a path from the root", (key: string) => `/first/of/all/ada/${key}`],
    ["an escaped path", (key: string) => `..%2fada%2f${key}`],
    ["a suffix", (key: string) => `${key}/../../ada/${key}`],
    ["a line break", (key: string) => `${key}\n`],
    ["capitals", (key: string) => key.toUpperCase()],
    ["nothing", () => ""],
  ])("cannot be named by %s", async (_, named) => {
    const { key } = await upload("ada");
    const json = await ask("bob", download(named(key)));
    expect(json.data).toBeNull();
    expect(json.errors[0].message).toBe("The key is not an upload's key.");
  });
});
