import { MessageChannel, receiveMessageOnPort } from "node:worker_threads";
import { expect, it } from "vitest";
import { decodeReplies, decodeTasks, encodeReplies, encodeTasks } from "../../src/shared/protocol/codec.ts";
import type { LaneTask, NumberedReply, RequestTask } from "../../src/shared/protocol/messages.ts";

const request: RequestTask = {
  kind: "request",
  slot: 7,
  instance: 3,
  binding: '{"tenant":"acme"}',
  settings: { role: "acme_user", "jwt.claims.sub": "" },
  signing: '{"secret":"…"}',
  method: "POST",
  path: "/graphql",
  basePath: "/t/acme",
  query: "a=1&b=",
  headers: { accept: "application/json", "user-agent": "a client" },
  body: '{"query":"{ __typename }"}',
};

it("requests and cancellations are decoded as they were encoded, in order", () => {
  const bare: RequestTask = { ...request, slot: 0, settings: {}, headers: {}, signing: null, body: null };
  const tasks: LaneTask[] = [
    { kind: "numbered", number: 1, together: false, task: request },
    { kind: "cancel", slot: 7 },
    { kind: "numbered", number: 2, together: true, task: bare },
    { kind: "cancel", slot: 0 },
  ];
  expect(decodeTasks(structuredClone(encodeTasks(tasks)))).toEqual(tasks);
  expect(decodeTasks(encodeTasks([]))).toEqual([]);
});

it("replies are decoded as they were encoded, whatever their bodies", () => {
  const headers = { "content-type": "application/json", vary: "" };
  const replies: NumberedReply[] = [
    { number: 4, reply: { ok: true, value: { kind: "text", status: 200, headers, body: "" } } },
    {
      number: 1,
      reply: { ok: true, value: { kind: "bytes", status: 404, headers: {}, body: Uint8Array.of(0, 255) } },
    },
    { number: 2, reply: { ok: false, error: { code: "CELL_LOST", message: "gone" } } },
    {
      number: 3,
      reply: {
        ok: false,
        error: { code: "SCHEMA_CHANGED", message: "moved", detail: "at …", revisions: '{"acme":"7"}' },
      },
    },
  ];
  expect(decodeReplies(structuredClone(encodeReplies(replies)))).toEqual(replies);
});

it("the port of a stream still works when it arrives", () => {
  const { port1, port2 } = new MessageChannel();
  const body = new MessageChannel();
  const value = { kind: "stream", status: 200, headers: {}, port: body.port2 } as const;
  port1.postMessage(encodeReplies([{ number: 1, reply: { ok: true, value } }]), [body.port2]);
  const [reply] = decodeReplies(receiveMessageOnPort(port2)?.message);
  const arrived =
    reply?.reply.ok === true && reply.reply.value.kind === "stream" ? reply.reply.value.port : null;
  body.port1.postMessage("through");
  expect(arrived === null ? null : receiveMessageOnPort(arrived)?.message).toBe("through");
  for (const port of [port1, body.port1]) port.close();
});

it("a header or status of the wrong type, set by a plugin, damages no other reply", () => {
  const headers: Record<string, string> = {};
  Object.assign(headers, { "set-cookie": ["a=1", "b=2"] });
  const odd = { kind: "text", status: 200, headers, body: "odd" } as const;
  Object.assign(odd, { status: "201" });
  const plain = { kind: "text", status: 200, headers: { vary: "accept" }, body: "plain" } as const;
  const replies: NumberedReply[] = [
    { number: 1, reply: { ok: true, value: odd } },
    { number: 2, reply: { ok: true, value: plain } },
  ];
  expect(decodeReplies(structuredClone(encodeReplies(replies)))).toEqual([
    { number: 1, reply: { ok: true, value: { ...odd, status: 201 } } },
    replies[1],
  ]);
});
