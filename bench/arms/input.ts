/** The input of an arm's process: its first message. */
import { once } from "node:events";
import { z } from "zod";
import type { BenchTenant } from "../database.ts";

const tenant: z.ZodType<BenchTenant> = z.object({
  id: z.string(),
  schemas: z.object({ app: z.string() }),
  roles: z.object({ anonymous: z.string() }),
});

const message = z.object({
  input: z.object({
    arm: z.string(),
    url: z.string(),
    tenants: z.array(tenant),
    query: z.string().default(""),
    /** The most instances to keep; 0 keeps all. */
    instances: z.number().default(0),
    /** How long each operation is measured. */
    durationMs: z.number().default(0),
  }),
});

export type ArmInput = z.infer<typeof message>["input"];

export async function armInput(): Promise<ArmInput> {
  const [first]: unknown[] = await once(process, "message");
  return message.parse(first).input;
}

export function reply(figures: Readonly<Record<string, number | string>>): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  process.send?.(figures, (error: Error | null) => (error === null ? resolve() : reject(error)));
  return promise;
}
