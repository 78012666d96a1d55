/** Limits an operation's planning by the thread's own CPU time, and gives the refusal a code. */
import { OperationPlan } from "postgraphile/grafast";

/** What Grafast (1.1.3) stores about a plan in progress. */
interface Planning {
  /** In milliseconds; null if there is no limit. */
  readonly planningTimeout: number | null;
  /** As measured by `performance.now()`. */
  readonly startTime: number;
}

function isPlanning(value: object): value is Planning {
  const { planningTimeout, startTime }: { planningTimeout?: unknown; startTime?: unknown } = value;
  return typeof startTime === "number" && (planningTimeout === null || typeof planningTimeout === "number");
}

type Method = (this: object) => void;

function isMethod(value: unknown): value is Method {
  return typeof value === "function" && value.length === 0;
}

/** CPU time of this thread; Node has this function since 23.9. */
function cpuMs(): number {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1000;
}

let isReplaced = false;

/**
 * Grafast compares the clock on the wall with the limit: on a machine that is fifteen times overloaded, an operation whose plan takes 100 ms
 * is refused, and for a minute more, as the refusal is kept in place of the plan. With this it is refused once both the clock and the
 * thread's own time are over the limit. The first plans of a thread, whose code is cold, keep the longer time on the clock that Grafast
 * gives them. Where Node has no such measure, the clock alone decides, as it does in Grafast. Returns false, and changes nothing, where
 * Grafast has other methods.
 */
export function countPlanningByCpu(): boolean {
  const { prototype } = OperationPlan;
  const planOperation: unknown = Reflect.get(prototype, "planOperation");
  const checkTimeout: unknown = Reflect.get(prototype, "checkTimeout");
  if (isReplaced) return true;
  if (!isMethod(planOperation) || !isMethod(checkTimeout)) return false;
  isReplaced = true;
  const beganMs = new WeakMap<object, number>();
  const countsCpu = typeof process.threadCpuUsage === "function";
  const isWithin = (plan: object): boolean => {
    const began = beganMs.get(plan);
    if (began === undefined || !isPlanning(plan) || plan.planningTimeout === null) return false;
    // The wall clock is cheaper to read, and usually decides.
    return (
      performance.now() - plan.startTime <= plan.planningTimeout || cpuMs() - began <= plan.planningTimeout
    );
  };
  const replacements: Record<string, Method> = {
    planOperation() {
      if (countsCpu) beganMs.set(this, cpuMs());
      planOperation.call(this);
    },
    checkTimeout() {
      if (isWithin(this)) return;
      try {
        checkTimeout.call(this);
      } catch (error) {
        throw withCode(error);
      }
    },
  };
  for (const [name, value] of Object.entries(replacements)) {
    Object.defineProperty(prototype, name, { value, writable: true, configurable: true });
  }
  return true;
}

/** Adds the code to the error itself, because Grafast later looks for its own marks in it. */
function withCode(error: unknown): unknown {
  if (typeof error !== "object" || error === null || !("extensions" in error)) return error;
  const { extensions } = error;
  if (typeof extensions === "object" && extensions !== null)
    Object.assign(extensions, { code: "PLANNING_TIMEOUT" });
  return error;
}
