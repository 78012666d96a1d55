import { expect, it } from "vitest";
import { receiveBody } from "../../src/shared/protocol/body-stream.ts";
import { createDatabase } from "../support/database.ts";
import { openCell } from "../support/worker-cell.ts";
import { presetUrl } from "../support/worker-instance.ts";
import { workerTenantSql } from "../support/worker-tenant.ts";

const preset = presetUrl(`
  import { PostGraphileAmberPreset } from ${JSON.stringify(import.meta.resolve("postgraphile/presets/amber"))};
  import { StreamDeferPlugin } from ${JSON.stringify(import.meta.resolve("postgraphile/graphile-build"))};
  export default { extends: [PostGraphileAmberPreset], plugins: [StreamDeferPlugin] };`);
const accept = "multipart/mixed;deferSpec=20220824, application/json";

it("an abandoned body ends its statement, and does not swallow a cancel of the next request in its slot", async () => {
  const database = await createDatabase("slots");
  await database.execute(workerTenantSql("ada"));
  const asleep = async (): Promise<number> => {
    const rows = await database.query(
      "select from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'",
    );
    return rows.length;
  };
  const { cell, ask, close } = await openCell(database, preset);
  try {
    const streamed = await ask("{ __typename ... @defer { sleep(seconds: 100) } }", { headers: { accept } });
    if (streamed.kind !== "stream") throw new Error("not a stream");
    const reader = receiveBody(streamed.port).getReader();
    await reader.read();
    await expect.poll(asleep).toBe(1);

    // The host frees a slot when it closes the body's port: the next request may arrive before the thread hears of that.
    const next = ask("{ sleep(seconds: 100) }");
    await expect.poll(asleep).toBe(2);
    await reader.cancel();
    await expect.poll(asleep).toBe(1);
    cell.cancel(0);
    await expect.poll(asleep).toBe(0);
    await next;
  } finally {
    await close();
    await database.drop();
  }
});
