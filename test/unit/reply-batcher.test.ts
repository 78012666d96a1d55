import { once } from "node:events";
import { MessageChannel, receiveMessageOnPort } from "node:worker_threads";
import { expect, it, vi } from "vitest";
import { sendBody, windowBytes } from "../../src/shared/protocol/body-stream.ts";
import { decodeReplies } from "../../src/shared/protocol/codec.ts";
import type { CellMessage, NumberedReply } from "../../src/shared/protocol/messages.ts";
import { ReplyBatcher } from "../../workers/reply-batcher.ts";

function openOutbox(): {
  replyBatcher: ReplyBatcher;
  heard: () => Promise<readonly NumberedReply[]>;
  close: () => void;
} {
  const { port1, port2 } = new MessageChannel();
  const replyBatcher = new ReplyBatcher(
    (message, transfer) => port1.postMessage(message, transfer),
    () => ["acme", 1.5],
  );
  return {
    replyBatcher,
    heard: async () => {
      const [message]: CellMessage[] = await once(port2, "message");
      return message?.kind === "replies" ? decodeReplies(message.encoded) : [];
    },
    close: () => port2.close(),
  };
}

const answer = (body: string, headers: Record<string, string> = {}) => ({
  reply: { ok: true as const, value: { kind: "text" as const, status: 200, headers, body } },
  transfer: [],
});

it("replies of one turn of the loop go in one message, in order", async () => {
  const { replyBatcher, heard, close } = openOutbox();
  for (const number of [3, 1, 2]) replyBatcher.add(number, answer(`of ${number}`));
  expect(await heard()).toEqual([3, 1, 2].map((number) => ({ number, reply: answer(`of ${number}`).reply })));
  replyBatcher.add(4, answer("of 4"));
  expect(await heard()).toEqual([{ number: 4, reply: answer("of 4").reply }]);
  close();
});

it("an answer that cannot be sent fails alone", async () => {
  const { replyBatcher, heard, close } = openOutbox();
  const odd: Record<string, string> = {};
  Object.assign(odd, { vary: () => "whatever a plugin put there" });
  replyBatcher.add(1, answer("before"));
  replyBatcher.add(2, answer("odd", odd));
  replyBatcher.add(3, answer("behind"));
  const messages = [await heard(), await heard(), await heard()];
  expect(messages[0]).toEqual([{ number: 1, reply: answer("before").reply }]);
  expect(messages[1]).toMatchObject([{ number: 2, reply: { ok: false, error: { code: "INTERNAL" } } }]);
  expect(messages[2]).toEqual([{ number: 3, reply: answer("behind").reply }]);
  close();
});

it("the body of an answer that cannot be sent ends, and its source with it", async () => {
  const { replyBatcher, heard, close } = openOutbox();
  const { port1, port2 } = new MessageChannel();
  let given = false;
  async function* endless(): AsyncGenerator<Uint8Array> {
    try {
      for (;;) yield new Uint8Array(windowBytes);
    } finally {
      given = true;
    }
  }
  const sent = sendBody(port1, endless());
  const headers: Record<string, string> = {};
  Object.assign(headers, { vary: () => "whatever a plugin put there" });
  const value = { kind: "stream" as const, status: 200, headers, port: port2 };
  replyBatcher.add(1, { reply: { ok: true, value }, transfer: [port2] });
  expect(await heard()).toMatchObject([{ number: 1, reply: { ok: false } }]);
  expect(await sent).toMatchObject({ code: "CANCELLED" });
  await vi.waitFor(() => expect(given).toBe(true), { timeout: 20_000 });
  close();
});

it("an answer that cannot be sent affects neither bytes nor streams of those beside it", async () => {
  const { replyBatcher, heard, close } = openOutbox();
  const { port1, port2 } = new MessageChannel();
  const own = Uint8Array.of(1, 2, 3);
  const odd: Record<string, string> = {};
  Object.assign(odd, { vary: () => "whatever a plugin put there" });
  const head = { status: 200, headers: {} } as const;
  replyBatcher.add(1, {
    reply: { ok: true, value: { kind: "bytes", ...head, body: own } },
    transfer: [own.buffer],
  });
  replyBatcher.add(2, {
    reply: { ok: true, value: { kind: "stream", ...head, port: port2 } },
    transfer: [port2],
  });
  replyBatcher.add(3, answer("odd", odd));
  const replies = [await heard(), await heard(), await heard()].flat();
  expect(replies).toMatchObject([
    { number: 1, reply: { ok: true, value: { body: Uint8Array.of(1, 2, 3) } } },
    { number: 2, reply: { ok: true, value: { kind: "stream" } } },
    { number: 3, reply: { ok: false, error: { code: "INTERNAL" } } },
  ]);
  port1.postMessage("through");
  const [, stream] = replies;
  const port = stream?.reply.ok === true && stream.reply.value.kind === "stream" && stream.reply.value.port;
  expect(port && receiveMessageOnPort(port)?.message).toBe("through");
  port1.close();
  close();
});
