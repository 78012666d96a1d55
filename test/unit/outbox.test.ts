import { once } from "node:events";
import { MessageChannel } from "node:worker_threads";
import { expect, it } from "vitest";
import { Outbox } from "../../workers/outbox.ts";

function openOutbox(): { outbox: Outbox; heard: () => Promise<unknown>; close: () => void } {
  const { port1, port2 } = new MessageChannel();
  const outbox = new Outbox((message, transfer) => port1.postMessage(message, transfer));
  return {
    outbox,
    heard: async () => (await once(port2, "message"))[0],
    close: () => port2.close(),
  };
}

const answer = (body: string, headers: Record<string, string> = {}) => ({
  reply: { ok: true as const, value: { kind: "text" as const, status: 200, headers, body } },
  transfer: [],
});

it("what gathers in one turn of the loop goes in one message, in its order", async () => {
  const { outbox, heard, close } = openOutbox();
  for (const number of [3, 1, 2]) outbox.add(number, answer(`of ${number}`));
  expect(await heard()).toEqual({
    kind: "replies",
    replies: [3, 1, 2].map((number) => ({ number, reply: answer(`of ${number}`).reply })),
  });
  outbox.add(4, answer("of 4"));
  expect(await heard()).toEqual({ kind: "replies", replies: [{ number: 4, reply: answer("of 4").reply }] });
  close();
});

it("an answer that cannot be sent fails alone", async () => {
  const { outbox, heard, close } = openOutbox();
  const odd: Record<string, string> = {};
  Object.assign(odd, { vary: () => "whatever a plugin put there" });
  outbox.add(1, answer("before"));
  outbox.add(2, answer("odd", odd));
  outbox.add(3, answer("behind"));
  const messages = [await heard(), await heard(), await heard()];
  expect(messages[0]).toEqual({ kind: "replies", replies: [{ number: 1, reply: answer("before").reply }] });
  expect(messages[1]).toMatchObject({
    replies: [{ number: 2, reply: { ok: false, error: { code: "INTERNAL" } } }],
  });
  expect(messages[2]).toEqual({ kind: "replies", replies: [{ number: 3, reply: answer("behind").reply }] });
  close();
});
