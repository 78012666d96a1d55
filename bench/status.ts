/** Reads a running host's status. */
import { setTimeout as sleep } from "node:timers/promises";
import { z } from "zod";
import type { ServerArm } from "./server.ts";

const statusShape = z.object({
  cells: z.array(
    z.object({
      id: z.string(),
      phase: z.string(),
      heapUsedMb: z.number(),
      instances: z.array(z.object({ key: z.string(), heapMb: z.number() })),
    }),
  ),
  evictions: z.number(),
});

export type HostStatus = z.infer<typeof statusShape>;

export async function statusOf(server: ServerArm): Promise<HostStatus> {
  return statusShape.parse(await server.admin("/status"));
}

/** The first status that `fits`; throws if none does within 30 s. */
export async function waitForStatus(
  server: ServerArm,
  fits: (status: HostStatus) => boolean,
): Promise<HostStatus> {
  const deadlineMs = performance.now() + 30_000;
  for (;;) {
    const status = await statusOf(server);
    if (fits(status)) return status;
    if (performance.now() > deadlineMs) throw new Error(`the host stayed at ${JSON.stringify(status)}`);
    await sleep(20);
  }
}

const decisionShape = z.object({ key: z.string(), kind: z.enum(["pooled", "dedicated"]) });

/** The cell whose thread holds the tenant's instance; throws if there is none. */
export async function cellOf(server: ServerArm, tenant: string): Promise<string> {
  const { key } = decisionShape.parse(await server.admin(`/tenants/${tenant}`));
  const { cells } = await statusOf(server);
  const cell = cells.find(({ instances }) => instances.some((instance) => instance.key === key));
  if (cell === undefined) throw new Error(`no cell holds the instance of ${tenant}`);
  return cell.id;
}
