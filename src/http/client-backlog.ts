/** Bytes that wait in this process for clients: bodies that have not come whole, or are at work, and answers that are not read. */

/** What waits for the clients of one address. */
interface Share {
  readonly address: string;
  bytes: number;
  waits: number;
  /** Those whose end is still the client's to delay, in the order of their first bytes. */
  readonly slow: Set<Wait>;
}

/**
 * A bound on what slow clients make the process keep: where it is passed, that goes which has waited longest for the address for which
 * most waits, the newest not counted. So an address with little is not made to pay for one with much, and whoever is quick
 * may bring or take a lot.
 */
export class ClientBacklog {
  readonly #mostBytes: number;
  readonly #shares = new Map<string, Share>();
  #bytes = 0;

  constructor(mostBytes: number) {
    this.#mostBytes = mostBytes;
  }

  /** What is to wait for a client of `address`. */
  wait(address: string): Wait {
    return new Wait(this, address);
  }

  /** For `wait`'s own use. */
  add(wait: Wait, bytes: number): boolean {
    const share = wait.share ?? this.#begin(wait);
    wait.bytes += bytes;
    share.bytes += bytes;
    this.#bytes += bytes;
    while (this.#bytes > this.#mostBytes) {
      const next = this.#next(wait);
      if (next === null) return false;
      this.leave(next);
      next.cut();
    }
    return true;
  }

  /** For `wait`'s own use. */
  leave(wait: Wait): void {
    const { share, bytes } = wait;
    if (share === null) return;
    wait.share = null;
    wait.bytes = 0;
    this.#bytes -= bytes;
    share.bytes -= bytes;
    share.waits -= 1;
    share.slow.delete(wait);
    if (share.waits === 0) this.#shares.delete(share.address);
  }

  #begin(wait: Wait): Share {
    const { address } = wait;
    const share = this.#shares.get(address) ?? { address, bytes: 0, waits: 0, slow: new Set() };
    share.waits += 1;
    share.slow.add(wait);
    wait.share = share;
    this.#shares.set(address, share);
    return share;
  }

  /** It goes through all addresses, but whatever is cut was more than a few kilobytes, and as much has to come before the next time. */
  #next(newest: Wait): Wait | null {
    let largest: Share | null = null;
    let most = -1;
    for (const share of this.#shares.values()) {
      const isOwn = share === newest.share;
      const counted = isOwn ? share.bytes - newest.bytes : share.bytes;
      if (counted <= most || share.slow.size <= (isOwn ? 1 : 0)) continue;
      largest = share;
      most = counted;
    }
    for (const wait of largest?.slow ?? []) if (wait !== newest) return wait;
    return null;
  }
}

/** One body's, or one answer's, part of the backlog. */
export class Wait {
  readonly #backlog: ClientBacklog;
  readonly address: string;
  /** Null while nothing waits. */
  share: Share | null = null;
  bytes = 0;
  cut = (): void => {};

  constructor(backlog: ClientBacklog, address: string) {
    this.#backlog = backlog;
    this.address = address;
  }

  /** Counts `bytes` more, and has others cut until there is room. False where there is none even so; a `leave` is owed either way. */
  add(bytes: number, cut: () => void): boolean {
    this.cut = cut;
    return this.#backlog.add(this, bytes);
  }

  /** From now on it is not cut, but its bytes count. */
  keep(): void {
    this.share?.slow.delete(this);
  }

  leave(): void {
    this.#backlog.leave(this);
  }
}
