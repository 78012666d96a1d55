/** Which cells there are, what is in them, and which instance serves a key. State only; the fleet owns it. */
import type { CellId, InstanceKey, TenantId } from "../shared/kernel/ids.ts";
import type { Cell } from "./cell/cell.ts";
import type { Instance } from "./instance.ts";
import type { PlacedCell } from "./policy/placement.ts";

/** Whether requests may go to a cell: a condemned one serves on until it is drained. */
export function isServing(cell: Cell): boolean {
  return cell.phase === "serving" || cell.phase === "condemned";
}

/** Whether it is built, and what it takes not known yet. */
export function isUnmeasured({ phase, measured }: Instance): boolean {
  return phase !== "building" && !measured;
}

export class Registry {
  readonly #cells = new Map<CellId, Cell>();
  readonly #members = new Map<CellId, Set<Instance>>();
  /** What serves each key: one instance, or several in as many cells. */
  readonly #current = new Map<InstanceKey, Instance[]>();

  get cells(): readonly Cell[] {
    return [...this.#cells.values()];
  }

  get cellCount(): number {
    return this.#cells.size;
  }

  cell(id: CellId): Cell | undefined {
    return this.#cells.get(id);
  }

  addCell(cell: Cell): void {
    this.#cells.set(cell.id, cell);
    this.#members.set(cell.id, new Set());
  }

  /** Takes the cell out with all that was in it, which it returns. */
  removeCell(cell: Cell): readonly Instance[] {
    const members = this.instancesOf(cell);
    this.#cells.delete(cell.id);
    this.#members.delete(cell.id);
    for (const instance of members) this.unpublish(instance);
    return members;
  }

  add(instance: Instance): void {
    this.#members.get(instance.cell.id)?.add(instance);
  }

  remove(instance: Instance): void {
    this.unpublish(instance);
    this.#members.get(instance.cell.id)?.delete(instance);
  }

  /** Puts `instance` in service beside whatever serves its key. */
  publish(instance: Instance): void {
    const { key } = instance.spec;
    this.#current.set(key, [...(this.#current.get(key) ?? []), instance]);
  }

  /** By identity: others under the same key stay. */
  unpublish(instance: Instance): void {
    const { key } = instance.spec;
    const others = this.#current.get(key)?.filter((each) => each !== instance) ?? [];
    if (others.length === 0) this.#current.delete(key);
    else this.#current.set(key, others);
  }

  /** What serves `key`; a cell whose thread is on its way out, for whatever reason, serves nothing any more. */
  serving(key: InstanceKey): readonly Instance[] {
    return this.#current.get(key)?.filter(({ cell }) => isServing(cell)) ?? [];
  }

  /** What serves `key` for `tenant` alone. */
  reserved(key: InstanceKey, tenant: TenantId): Instance | undefined {
    return this.#current.get(key)?.find((each) => each.reservedFor === tenant && isServing(each.cell));
  }

  /** What serves `key` for `tenant`: what is its own, or else the one with the fewest requests in flight. */
  current(key: InstanceKey, tenant: TenantId): Instance | undefined {
    let least: Instance | undefined;
    for (const instance of this.#current.get(key) ?? []) {
      if (!isServing(instance.cell)) continue;
      if (instance.reservedFor === tenant) return instance;
      if (instance.reservedFor !== null) continue;
      if (least === undefined || instance.inFlight < least.inFlight) least = instance;
    }
    return least;
  }

  get published(): readonly Instance[] {
    return [...this.#current.values()].flat();
  }

  instancesOf(cell: Cell): readonly Instance[] {
    return [...(this.#members.get(cell.id) ?? [])];
  }

  find(id: number): Instance | undefined {
    for (const members of this.#members.values()) {
      for (const instance of members) if (instance.id === id) return instance;
    }
    return undefined;
  }

  /** What placement decides on. */
  placed(): readonly PlacedCell[] {
    return this.cells.map((cell) => {
      const members = this.instancesOf(cell);
      return {
        id: cell.id,
        phase: cell.phase,
        heapMb: cell.heapMb,
        heapLiveMb: cell.heap.liveMb,
        unmeasured: members.some(isUnmeasured) ? cell.heap.unmeasured : null,
        busy: cell.isBusy,
        exclusive: members.some((instance) => instance.exclusive),
        instances: members.map((instance) => ({
          id: instance.id,
          heapMb: instance.heapMb,
          inFlight: instance.inFlight,
          lastUsedMs: instance.lastUsedMs,
          live: instance.phase === "live",
          unmeasured: isUnmeasured(instance),
          leaving: instance.phase === "draining",
        })),
      };
    });
  }
}
