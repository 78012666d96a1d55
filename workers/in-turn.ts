/** Runs tasks in the order in which they came, each in a turn of its own. */

/**
 * A task and what it sets off at once run before the next task begins: whose time it was would be anybody's guess if several ran among
 * one another. One queue for all messages, because Node may deliver the next message before an immediate: a task of a later message
 * would overtake those of an earlier one, and a cancel meet another request in the slot that it is for.
 */
export class InTurn<Task> {
  readonly #run: (task: Task) => void;
  readonly #waiting: Task[] = [];

  constructor(run: (task: Task) => void) {
    this.#run = run;
  }

  /** The first begins at once where none waits. */
  add(tasks: readonly Task[]): void {
    let isFree = this.#waiting.length === 0;
    for (const task of tasks) {
      if (isFree) {
        isFree = false;
        this.#run(task);
      } else {
        this.#waiting.push(task);
        // Those queued together run without a look for events between them.
        setImmediate(this.#next);
      }
    }
  }

  readonly #next = (): void => {
    const task = this.#waiting.shift();
    if (task !== undefined) this.#run(task);
  };
}
