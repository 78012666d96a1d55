import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { directoryWith, TestHost } from "../support/host.ts";

const products = "{ allProducts(first: 2) { nodes { rowId name unitPrice } } }";

let directory: string;
let remove: () => Promise<void>;
let host: TestHost;

beforeAll(async () => {
  ({ path: directory, remove } = await directoryWith({}));
  host = await TestHost.start({ config: null, directory });
});

afterAll(async () => {
  await remove();
});

/** Whether PostgreSQL runs in a data directory, by its pid file. */
function serverRuns(folder = join(directory, ".rowhouse")): boolean {
  return readdirSync(folder, { recursive: true }).some((name) => String(name).endsWith("postmaster.pid"));
}

const ids = ["acme", "globex", "initech", "umbrella", "hooli", "stark"];

describe("rowhouse serve, with nothing configured", () => {
  it("serves six shops from its own server, each with its own rows, and prints how to query them", async () => {
    for (const id of ids) {
      const label = id.charAt(0).toUpperCase() + id.slice(1);
      const { allProducts } = await host.data(id, products);
      expect(allProducts.nodes).toHaveLength(2);
      for (const { name } of allProducts.nodes) expect(name).toMatch(new RegExp(`^${label} `));
      const byHost = await host.graphql(id, products, { headers: { host: `${id}.localhost` } });
      expect(byHost.data).toEqual({ allProducts });
    }
    const { stdout } = host.process;
    expect(stdout).toContain(`GraphQL  ${host.url}/graphql`);
    expect(stdout).toContain(`${host.adminUrl}/status`);
    expect(stdout).toMatch(/curl .*x-tenant: acme/);
    expect(stdout).toMatch(/Ctrl-C/);
    expect(existsSync(join(directory, ".rowhouse"))).toBe(true);
    expect(serverRuns()).toBe(true);
  });

  it("shows a browser at the machine's own address a page with a link to each tenant", async () => {
    const { port } = new URL(host.url);
    for (const name of ["127.0.0.1", "localhost", "[::1]"]) {
      const headers = { host: `${name}:${port}`, accept: "text/html" };
      const page = await host.send("/", { headers, tenant: ids });
      expect(page.status).toBe(200);
      expect(page.headers["content-type"]).toBe("text/html; charset=utf-8");
      expect(page.headers["content-security-policy"]).toMatch(/^default-src 'none'; style-src 'sha256-/);
      for (const id of ids) expect(page.text).toContain(`<a href="http://${id}.localhost:${port}/">`);
      expect(page.text).not.toMatch(/<script|https:|src=|eyJ/);
      expect(page.text.length).toBeLessThan(6_000);
    }
    // A link of the page works.
    const graphiql = await host.send("/", {
      headers: { host: `acme.localhost:${port}`, accept: "text/html" },
    });
    expect(graphiql.status).toBe(200);
    expect(graphiql.text).toMatch(/graphiql|ruru/i);
    expect(host.process.stdout).toContain(`Browser  ${host.url}/`);
  });

  it.each([
    ["another host's name", { host: "rebound.example" }, "/"],
    ["an unknown tenant", { host: "127.0.0.1", "x-tenant": "nobody" }, "/"],
    ["another path", { host: "127.0.0.1" }, "/graphql"],
    ["another page", { host: "127.0.0.1" }, "/index.html"],
  ])("does not show them for %s", async (_, headers, path) => {
    const answer = await host.send(path, { headers: { accept: "text/html", ...headers } });
    expect(answer.status).toBe(404);
    expect(answer.text).not.toContain("globex");
  });

  it("pools tenants of one shape, but not one with an extra column or a catalogue name", async () => {
    const views = await Promise.all(ids.map((id) => host.adminJson(`/tenants/${id}`)));
    const [acme, globex, initech, umbrella, hooli, stark] = views;
    for (const each of [globex, initech, umbrella]) expect(each.key).toBe(acme.key);
    expect(acme.kind).toBe("pooled");
    expect(hooli).toMatchObject({ kind: "pooled" });
    expect(hooli.key).not.toBe(acme.key);
    expect(stark).toMatchObject({ kind: "dedicated", hidden: [expect.stringContaining("pg_group")] });
    expect(stark.reason).toContain("pg_group");
    expect(await host.metric('builds_total{result="ok"}')).toBe(3);

    const weight = "{ productByRowId(rowId: 1) { weightGrams } }";
    expect(await host.data("hooli", weight)).toEqual({ productByRowId: { weightGrams: 100 } });
    expect(await host.graphql("acme", weight)).toMatchObject({ status: 400 });
    expect(await host.data("stark", "{ allPgGroups { nodes { label } } }")).toEqual({
      allPgGroups: { nodes: [{ label: "Stark wholesale" }, { label: "Stark retail" }] },
    });
  });

  it("accepts an order, and hides private customers", async () => {
    const order = `mutation { placeOrder(input: { customerName: "Linus", customerEmail: "linus@acme.example", productId: 1, quantity: 3 }) {
      result { rowId status total customerByCustomerId { name } } } }`;
    const { placeOrder } = await host.data("acme", order);
    expect(placeOrder.result).toMatchObject({ status: "placed", customerByCustomerId: { name: "Linus" } });
    expect(Number(placeOrder.result.total)).toBeGreaterThan(0);

    const customers = await host.data("acme", "{ allCustomers { nodes { name } } }");
    const names = customers.allCustomers.nodes.map(({ name }: { name: string }) => name);
    expect(names).toContain("Ada of Acme");
    expect(names).not.toContain("Grace of Acme");
    const others = await host.data("globex", "{ allCustomers { nodes { name } } }");
    expect(JSON.stringify(others)).not.toMatch(/Acme|Linus/);
  });

  it("signs in a customer, who then sees their own rows, at their own shop only", async () => {
    const login = `mutation { login(input: { email: "grace@acme.example", password: "rowhouse" }) { result } }`;
    const token = (await host.data("acme", login)).login.result;
    expect(token).toMatch(/^eyJ/);
    expect((await host.data("globex", login)).login.result).toBeNull();
    expect((await host.data("acme", login.replace("rowhouse", "wrong"))).login.result).toBeNull();

    const mine = "{ currentCustomer { name ordersByCustomerId { totalCount } } }";
    const as = (id: string, bearer: string) => ({ "x-tenant": id, authorization: `Bearer ${bearer}` });
    const signedIn = await host.graphql("acme", mine, { headers: as("acme", token) });
    expect(signedIn.data).toEqual({
      currentCustomer: { name: "Grace of Acme", ordersByCustomerId: { totalCount: expect.any(Number) } },
    });
    expect(signedIn.data.currentCustomer.ordersByCustomerId.totalCount).toBeGreaterThan(0);
    expect(await host.data("acme", mine)).toEqual({ currentCustomer: null });

    // In a dedicated instance as well.
    const atStark = login.replace("acme", "stark");
    const starkToken = (await host.data("stark", atStark)).login.result;
    const grace = await host.graphql("stark", mine, { headers: as("stark", starkToken) });
    expect(grace.data.currentCustomer.name).toBe("Grace of Stark");

    for (const other of ids.filter((id) => id !== "acme")) {
      const answer = await host.graphql(other, mine, { headers: as(other, token) });
      expect(answer).toMatchObject({ status: 401, code: "TOKEN_INVALID" });
      expect(answer.headers["www-authenticate"]).toMatch(/^Bearer/);
    }
    expect(host.process.output).not.toContain(token);
  });

  it("stops its database server with itself, and has its data again after a restart", async () => {
    await host.stop();
    expect(serverRuns()).toBe(false);

    host = await TestHost.start({
      config: null,
      directory,
      args: ["--tenants", "20"],
      env: { NODE_ENV: "production" },
    });
    // In production the tenants are not listed.
    const { port } = new URL(host.url);
    expect((await host.send("/", { headers: { host: `127.0.0.1:${port}` } })).status).toBe(404);
    const customers = await host.data("acme", "{ allCustomers { nodes { name } } }");
    expect(JSON.stringify(customers)).toMatch(/Linus/);
    expect(await host.data("t0020", products)).toMatchObject({
      allProducts: { nodes: [{ name: expect.stringMatching(/^T0020 /) }, {}] },
    });
    const [acme, more] = [await host.adminJson("/tenants/acme"), await host.adminJson("/tenants/t0007")];
    expect(more.key).toBe(acme.key);
    expect(await host.adminJson("/status")).toMatchObject({ tenants: { known: 26 } });
    await host.stop();
    expect(serverRuns()).toBe(false);
  });
});
