import { createHash } from "node:crypto";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { CellServ } from "../../workers/request/grafserv.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { type Answered, Worker } from "../support/worker-instance.ts";
import { workerTenantSql } from "../support/worker-tenant.ts";

let database: TestDatabase;
let worker: Worker;
let serv: CellServ;
beforeAll(async () => {
  database = await createDatabase("graphiql");
  await database.execute(workerTenantSql("ada"));
  worker = new Worker(database, { graphiql: true });
  serv = await worker.build("pooled", { app: "ada" });
});
afterAll(() => database.drop());

const get = (path: string, basePath = "", headers: Record<string, string> = {}): Promise<Answered> =>
  worker.ask(serv, { tenant: "ada", method: "GET", body: null, path, basePath, headers });
const html = { accept: "text/html" };

describe("GraphiQL", () => {
  it.each([
    ["", "/graphql", "/ruru-static/"],
    ["/t/acme", "/t/acme/graphql", "/t/acme/ruru-static/"],
  ])("under %j refers to its endpoint and assets by that path", async (basePath, endpoint, assets) => {
    for (const path of ["/", "/graphql"]) {
      const { status, headers, text } = await get(path, basePath, html);
      expect(status).toBe(200);
      expect(headers["content-type"]).toMatch(/^text\/html/);
      expect(text).toContain(JSON.stringify(endpoint).slice(1, -1));
      expect(text).toContain(assets);
      if (basePath !== "") {
        expect(text).not.toMatch(/["'(]\/ruru-static/);
        expect(text).not.toMatch(/["']\/graphql["']/);
      }
    }
  });

  it("does not keep the path of the previous request", async () => {
    const [one, , other] = [
      await get("/", "", html),
      await get("/", "/t/acme", html),
      await get("/", "", html),
    ];
    expect(one.text).toBe(other.text);
  });

  it("serves its assets complete, and identical each time", async () => {
    const { text } = await get("/", "", html);
    const path = /\/ruru-static\/[^"']+\.js/.exec(text)?.[0] ?? "";
    const digests: string[] = [];
    for (let n = 0; n < 3; n += 1) {
      const asset = await get(path);
      expect(asset.status).toBe(200);
      expect(asset.headers["content-type"]).toMatch(/javascript/);
      expect(asset.text.length).toBeGreaterThan(10_000);
      digests.push(createHash("sha256").update(asset.text).digest("hex"));
    }
    expect(new Set(digests).size).toBe(1);
  });

  it("answers 404 for an unknown asset", async () => {
    const missing = await get("/ruru-static/none.js").catch((error) => error);
    expect(missing.status).toBe(404);
  });

  it("is compressed for a client that accepts it", async () => {
    const { headers } = await get("/", "", { ...html, "accept-encoding": "br" });
    expect(headers["content-encoding"]).toBe("br");
  });

  it("is off by default", async () => {
    const off = new Worker(database);
    const on = await off.build("pooled", { app: "ada" });
    for (const path of ["/", "/ruru-static/ruru.js"]) {
      const asking = off.ask(on, { tenant: "ada", method: "GET", body: null, path, headers: html });
      await expect(asking).rejects.toMatchObject({ code: "NOT_FOUND" });
    }
  });
});
