/** Runs tasks in the order in which they came: each in a turn of its own, or several that take little in one. */

export interface InTurnOptions<Task> {
  run(task: Task): void;
  /** Whether it takes so little that it may run among others of its kind. */
  isLight(task: Task): boolean;
  /** Calls `begin`, which begins several tasks in this turn. */
  share(begin: () => void): void;
}

/**
 * A task and what it sets off at once run before the next task begins: whose time it was would be anybody's guess if several ran among
 * one another. Light ones do: nobody is hurt by the guess, and the thread goes through the same code for all of them (see `FairQueue`).
 *
 * One queue for all messages, because Node may deliver the next message before an immediate: a task of a later message
 * would overtake those of an earlier one, and a cancel meet another request in the slot that it is for.
 */
export class InTurn<Task> {
  readonly #options: InTurnOptions<Task>;
  readonly #waiting: Task[] = [];

  constructor(options: InTurnOptions<Task>) {
    this.#options = options;
  }

  /** The first begins at once where none waits. */
  add(tasks: readonly Task[]): void {
    const begun = this.#waiting.length === 0 ? this.#begin(tasks) : 0;
    for (const task of tasks.slice(begun)) {
      this.#waiting.push(task);
      // Those queued together run without a look for events between them. One too many finds nothing to do.
      setImmediate(this.#next);
    }
  }

  readonly #next = (): void => {
    this.#waiting.splice(0, this.#begin(this.#waiting));
  };

  /** Begins the first of `tasks`, and those behind it that may run with it; returns how many. */
  #begin(tasks: readonly Task[]): number {
    const { run, isLight, share } = this.#options;
    const heavy = tasks.findIndex((task) => !isLight(task));
    const count = heavy === -1 ? tasks.length : Math.max(1, heavy);
    const first = tasks.slice(0, count);
    const begin = (): void => {
      for (const task of first) run(task);
    };
    if (count > 1) share(begin);
    else begin();
    return first.length;
  }
}
