import { MessageChannel } from "node:worker_threads";
import { afterEach, describe, expect, it } from "vitest";
import { Channel } from "../../src/fleet/cell/channel.ts";
import { HostError } from "../../src/shared/kernel/errors.ts";
import { decodeTasks, encodeReplies } from "../../src/shared/protocol/codec.ts";
import type {
  Answer,
  ControlMessage,
  NumberedReply,
  NumberedTask,
  RequestTask,
} from "../../src/shared/protocol/messages.ts";
import { requestTask } from "../support/request-task.ts";

const close: (() => void)[] = [];
afterEach(() => {
  for (const each of close.splice(0)) each();
});

const requestIn = (slot: number, body: string | null = null): RequestTask => requestTask({ slot, body });

/** A channel whose thread is this test. */
function open() {
  const { port1, port2 } = new MessageChannel();
  const channel = new Channel(
    port1,
    () => undefined,
    () => undefined,
  );
  const came: NumberedTask[] = [];
  const waiting: (() => void)[] = [];
  port2.on("message", (message: ControlMessage) => {
    if (message.kind !== "tasks") return;
    for (const task of decodeTasks(message.encoded)) if (task.kind === "numbered") came.push(task);
    for (const wake of waiting.splice(0)) wake();
  });
  close.push(() => port2.close());
  return {
    channel,
    ask: (task: RequestTask) =>
      new Promise<Answer>((resolve, reject) => channel.ask(task, { resolve, reject })),
    /** The first `count` tasks. */
    tasks: async (count: number): Promise<readonly NumberedTask[]> => {
      while (came.length < count) await new Promise<void>((wake) => waiting.push(wake));
      return came;
    },
    say: (replies: readonly NumberedReply[]) =>
      port2.postMessage({ kind: "replies", encoded: encodeReplies(replies) }),
    answer: (task: NumberedTask | undefined, body: string) => {
      const value = { kind: "text", status: 200, headers: {}, body } as const;
      const encoded = encodeReplies([{ number: task?.number ?? 0, reply: { ok: true, value } }]);
      port2.postMessage({ kind: "replies", encoded });
    },
  };
}

describe("a channel", () => {
  it("never gives a request the late answer of another that had its slot", async () => {
    const { channel, ask, tasks, answer } = open();
    const unsendable = requestIn(1);
    Object.assign(unsendable, { body: () => "nothing that a message can hold" });
    const first = ask(requestIn(1, "a"));
    const [a] = await tasks(1);
    // Its slot is given up for another while its answer is on its way.
    const failing = expect(ask(unsendable)).rejects.toMatchObject({ code: "INTERNAL" });
    channel.cancel(1);
    await failing;
    const second = ask(requestIn(1, "b"));
    const [, b] = await tasks(2);
    answer(a, "of a");
    expect(await first).toMatchObject({ body: "of a" });
    // Twice, as no thread should.
    answer(a, "of a");
    answer(b, "of b");
    expect(await second).toMatchObject({ body: "of b" });
  });

  it("fails only what cannot be sent, and sends the rest of the message", async () => {
    const { ask, tasks, answer } = open();
    const unsendable = requestIn(2);
    Object.assign(unsendable, { body: () => "nothing that a message can hold" });
    const before = ask(requestIn(1));
    const failing = expect(ask(unsendable)).rejects.toMatchObject({ code: "INTERNAL" });
    const behind = ask(requestIn(3));
    await failing;
    for (const task of await tasks(2)) answer(task, `of ${task.task.slot}`);
    expect(await before).toMatchObject({ body: "of 1" });
    expect(await behind).toMatchObject({ body: "of 3" });
  });

  it("fails a request with INTERNAL if its reply is malformed, and resolves the others in the same message", async () => {
    const { ask, tasks, say } = open();
    const asked = [ask(requestIn(1)), ask(requestIn(2)), ask(requestIn(3))];
    const settled = Promise.allSettled(asked);
    const numbers = (await tasks(3)).map(({ number }) => number);
    const [first = 0, second = 0, third = 0] = numbers;
    const error = Object.assign({ code: "INTERNAL", message: "" } as const, { code: "DB_DOWN" });
    const odd = { kind: "text", status: 200, headers: { vary: "accept" }, body: "odd" } as const;
    Object.assign(odd, { body: 7 });
    const value = { kind: "text", status: 200, headers: {}, body: "of 3" } as const;
    say([
      { number: first, reply: { ok: false, error } },
      { number: second, reply: { ok: true, value: odd } },
      { number: third, reply: { ok: true, value } },
    ]);
    expect(await settled).toMatchObject([
      { status: "rejected", reason: { code: "INTERNAL" } },
      { status: "rejected", reason: { code: "INTERNAL" } },
      { status: "fulfilled", value: { body: "of 3" } },
    ]);
  });

  it("fails all waiting requests when the thread is gone, and still handles its last messages", async () => {
    const { channel, ask, tasks, answer } = open();
    const answered = ask(requestIn(1));
    const lost = expect(ask(requestIn(2))).rejects.toMatchObject({ code: "CELL_LOST" });
    const [first] = await tasks(2);
    answer(first, "last words");
    channel.end(new HostError("CELL_LOST"));
    expect(await answered).toMatchObject({ body: "last words" });
    await lost;
  });
});
