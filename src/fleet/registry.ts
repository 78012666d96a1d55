/**
 * Which cells there are, which instances they hold, and which instance serves a key. State only; the fleet
 * owns it.
 */
import type { CellId, InstanceKey, TenantId } from "../shared/kernel/ids.ts";
import type { Cell } from "./cell/cell.ts";
import type { Instance } from "./instance.ts";
import type { PlacedCell } from "./policy/placement.ts";

/** Whether requests may go to a cell: a condemned cell serves until it is drained. */
export function isServing(cell: Cell): boolean {
  return cell.phase === "serving" || cell.phase === "condemned";
}

/** Whether it is built but its size is not known yet. */
export function isUnmeasured({ phase, measured }: Instance): boolean {
  return phase !== "building" && !measured;
}

export class Registry {
  readonly #cells = new Map<CellId, Cell>();
  readonly #members = new Map<CellId, Set<Instance>>();
  /** The instances that serve each key: one, or several in as many cells. */
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

  /** Removes the cell with all its instances; returns the instances. */
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

  /** Puts `instance` in service beside any others that serve its key. */
  publish(instance: Instance): void {
    const { key } = instance.spec;
    this.#current.set(key, [...(this.#current.get(key) ?? []), instance]);
  }

  /** Removes this very instance; others under the same key stay. */
  unpublish(instance: Instance): void {
    const { key } = instance.spec;
    const others = this.#current.get(key)?.filter((each) => each !== instance) ?? [];
    if (others.length === 0) this.#current.delete(key);
    else this.#current.set(key, others);
  }

  /** The instances that serve `key`; those in a cell that is being drained or ended are left out. */
  serving(key: InstanceKey): readonly Instance[] {
    return this.#current.get(key)?.filter(({ cell }) => isServing(cell)) ?? [];
  }

  /** The instance that serves `key` for `tenant` alone. */
  reserved(key: InstanceKey, tenant: TenantId): Instance | undefined {
    return this.#current.get(key)?.find((each) => each.reservedFor === tenant && isServing(each.cell));
  }

  /**
   * The instance that serves `key` for `tenant`: its own, or else the shared one with the fewest requests in
   * flight.
   */
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

  /** The input for placement decisions. */
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
