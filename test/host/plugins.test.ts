import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { TestHost } from "../support/host.ts";
import { createTenantDatabase, type TenantDatabase, type TenantRecord } from "../support/host-tenants.ts";
import {
  documentedPreset,
  runModule,
  typeFaults,
  type UserProject,
  userProject,
} from "../support/user-project.ts";

let database: TenantDatabase;
const tenants: TenantRecord[] = [];
const ids = ["t0", "t1", "t2"];

beforeAll(async () => {
  database = await createTenantDatabase("plugins");
  for (const id of ids) tenants.push(await database.tenant(id));
});
afterAll(() => database.drop());

const meta =
  "{ _meta { schemas tables { schema name columns { name type } relations { field references { table } } } } }";

describe.each(["linked", "published"] as const)(
  "a preset in a user's own folder, with Rowhouse %s",
  (kind) => {
    let project: UserProject;
    let host: TestHost;

    beforeAll(async () => {
      const config = {
        databases: { main: { url: database.hostUrl, install: false } },
        tenants,
        pooling: true,
        preset: "./preset.ts",
        cells: { memoryMb: 700, heapMb: 192, max: 2, instanceHeapMb: 16 },
      };
      project = await userProject(kind, {
        "preset.ts": await documentedPreset(),
        "host.json": JSON.stringify(config),
        "all.ts": `import { defineConfig } from "rowhouse";
        import { instanceOf, perBuild, requestOf, TenantCache } from "rowhouse/plugin";
        import type { Instance, TenantRequest } from "rowhouse/plugin";
        import { localized } from "rowhouse/plugins/localized";
        import { meta } from "rowhouse/plugins/meta";
        import { uploads } from "rowhouse/plugins/uploads";
        const tenantOf = (request: TenantRequest): string => request.tenant;
        const kinds: Instance["kind"][] = ["pooled", "dedicated"];
        const plugins: GraphileConfig.Plugin[] = [localized({ fallback: "en" }), meta(), uploads({ contentTypes: [], maxBytes: 1,
          authorize: () => false, store: ({ tenant }) => ({ bucket: tenant, client: {} }) })];
        console.log([typeof defineConfig, typeof instanceOf, typeof perBuild, typeof requestOf, typeof TenantCache, typeof tenantOf,
          kinds.length, plugins.map((plugin) => plugin.name)].join());`,
      });
      host = await TestHost.start({
        config: {},
        directory: project.path,
        cli: project.cli,
        connected: database.connected,
      });
    });
    afterAll(async () => {
      await host.stop();
      await project.remove();
    });

    it("does what the documentation says, for each tenant separately", async () => {
      const query = (id: string): string => `{ itemsCalled(label: "canary_${id} one") }`;
      for (const id of ids) {
        expect(await host.data(id, query(id))).toEqual({ itemsCalled: 1 });
        // The same cache key for another tenant.
        const other = id === "t0" ? "t1" : "t0";
        const answer = await host.send("/graphql", {
          method: "POST",
          headers: { "content-type": "application/json", "x-tenant": other },
          body: JSON.stringify({ query: query(id) }),
        });
        expect(JSON.parse(answer.text)).toEqual({ data: { itemsCalled: 0 } });
      }
      const label = `canary_t1 ${kind}`;
      const relabel = "mutation ($from: String!, $to: String!) { relabel(from: $from, to: $to) }";
      expect(await host.data("t1", relabel, { from: "canary_t1 two", to: label })).toEqual({ relabel: 1 });
      expect(await host.data("t0", relabel, { from: "canary_t1 two", to: label })).toEqual({ relabel: 0 });
      const { allItems } = await host.data(
        "t1",
        "{ allItems(orderBy: PRIMARY_KEY_ASC) { nodes { label } } }",
      );
      expect(allItems.nodes[1].label).toBe(label);
      await host.data("t1", relabel, { from: label, to: "canary_t1 two" });
      const { cells } = await host.adminJson("/status");
      expect(cells.flatMap((cell: { instances: object[] }) => cell.instances)).toEqual([
        expect.objectContaining({ kind: "pooled", tenants: 3 }),
      ]);
    });

    it("describes the tables behind the API in logical names", async () => {
      const answers = await Promise.all(ids.map((id) => host.data(id, meta)));
      expect(answers[0]._meta.schemas).toEqual(["app"]);
      expect(answers[0]._meta.tables.map(({ name }: { name: string }) => name).sort()).toEqual([
        "item",
        "part",
      ]);
      expect(answers[1]).toEqual(answers[0]);
      expect(JSON.stringify(answers)).not.toMatch(/canary|pg_rowhouse/);
    });

    it("can import every export of the package, with its types", async () => {
      if (kind === "published") {
        expect(await typeFaults(project, ["preset.ts", "all.ts"])).toEqual([]);
        // Alone, since another import might supply what its declarations forget to import.
        await writeFile(
          join(project.path, "alone.ts"),
          'import { meta } from "rowhouse/plugins/meta"; meta(1);',
        );
        expect(await typeFaults(project, ["alone.ts"])).toEqual([
          expect.stringMatching(/^alone\.ts.*TS2554/),
        ]);
      }
      expect(await runModule(project, "all.ts")).toBe(
        "function,function,function,function,function,function,2,RowhouseLocalizedPlugin,RowhouseMetaPlugin,RowhouseUploadsPlugin\n",
      );
      // The compiler reads the declarations of the AWS SDK and of PostGraphile twice, 4 s each on an idle core.
    }, 180_000);
  },
);
