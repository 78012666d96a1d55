import { MessageChannel } from "node:worker_threads";
import { expect, it } from "vitest";
import { InTurn } from "../../workers/in-turn.ts";

/** What each task did, in order: a task says its name, and twice more in microtasks. */
function open(): { tasks: InTurn<string>; said: string[]; over: (count: number) => Promise<void> } {
  const said: string[] = [];
  const waiting: { count: number; wake: () => void }[] = [];
  const say = (text: string): void => {
    said.push(text);
    for (const { count, wake } of waiting) if (said.length >= count) wake();
  };
  const tasks = new InTurn<string>({
    async run(name) {
      say(name);
      await null;
      say(name);
      await null;
      say(name);
    },
    isLight: (name) => name.startsWith("light"),
    share(begin) {
      say("(");
      begin();
      say(")");
    },
  });
  return {
    tasks,
    said,
    over: (count) =>
      new Promise((wake) => {
        if (said.length >= count) wake();
        else waiting.push({ count, wake });
      }),
  };
}

const thrice = (...names: string[]): string[] => names.flatMap((name) => [name, name, name]);

it("a task and its microtasks end before the next begins", async () => {
  const { tasks, said, over } = open();
  const { port1, port2 } = new MessageChannel();
  port2.on("message", (names: string[]) => tasks.add(names));
  port1.postMessage(["a", "b", "c"]);
  await over(9);
  port2.close();
  expect(said).toEqual(thrice("a", "b", "c"));
});

it("no task of a later message overtakes one of an earlier, however many are delivered at once", async () => {
  const { tasks, said, over } = open();
  const { port1, port2 } = new MessageChannel();
  port1.postMessage(["a", "cancel 5"]);
  port1.postMessage(["new 5", "b"]);
  port1.postMessage(["c"]);
  port2.on("message", (names: string[]) => tasks.add(names));
  await over(15);
  port2.close();
  expect(said).toEqual(thrice("a", "cancel 5", "new 5", "b", "c"));
});

it("the first begins at once if none waits, and none of many is lost", async () => {
  const { tasks, said, over } = open();
  tasks.add(["a"]);
  expect(said).toEqual(["a"]);
  tasks.add([]);
  tasks.add(Array.from({ length: 1_000 }, (_, n) => `t${n}`));
  await over(3_003);
  expect(said.filter((_, at) => at % 3 === 0).slice(-1)).toEqual(["t999"]);
});

it("adjacent light tasks are interleaved, and never with a heavy one or out of order", async () => {
  const { tasks, said, over } = open();
  const { port1, port2 } = new MessageChannel();
  port1.postMessage(["light 1", "light 2", "a", "light 3", "b", "light 4", "light 5"]);
  port1.postMessage(["light 6", "c"]);
  port2.on("message", (names: string[]) => tasks.add(names));
  await over(31);
  port2.close();
  const among = (...names: string[]): string[] => ["(", ...names, ")", ...names, ...names];
  expect(said).toEqual([
    ...among("light 1", "light 2"),
    ...thrice("a", "light 3", "b"),
    ...among("light 4", "light 5", "light 6"),
    ...thrice("c"),
  ]);
});
