/** Runs tasks in the order of arrival: each in its own turn of the event loop, except that several light ones share a turn. */

export interface InTurnOptions<Task> {
  run(task: Task): void;
  /** Whether the task is known to take so little time that it may share a turn. */
  isLight(task: Task): boolean;
  /** Calls `begin`, which starts several light tasks in this turn. */
  share(begin: () => void): void;
}

/**
 * A task and the microtasks that it queues run before the next task begins: if several were interleaved, their time could not be
 * attributed. Light ones are interleaved all the same: the error is small, and sharing warm code saves CPU (see `FairQueue`).
 *
 * There is one queue for all messages, because Node may deliver the next message before an immediate: a task of a later message
 * would overtake those of an earlier one, and a cancellation would meet another request in its slot.
 */
export class InTurn<Task> {
  readonly #options: InTurnOptions<Task>;
  readonly #waiting: Task[] = [];

  constructor(options: InTurnOptions<Task>) {
    this.#options = options;
  }

  /** Adds tasks. The first begins at once if none is waiting. */
  add(tasks: readonly Task[]): void {
    const begun = this.#waiting.length === 0 ? this.#begin(tasks) : 0;
    if (begun === tasks.length) return;
    for (const task of tasks.slice(begun)) {
      this.#waiting.push(task);
      // Immediates queued together run without polling for events in between. If a task has already run in a shared turn, its
      // immediate finds nothing left.
      setImmediate(this.#next);
    }
  }

  readonly #next = (): void => {
    this.#waiting.splice(0, this.#begin(this.#waiting));
  };

  /** Begins the first of `tasks` and those after it that may share its turn; returns how many. */
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
