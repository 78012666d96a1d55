/** Bytes that this process holds for clients: bodies that are arriving or being worked on, and answers that are not read. */

/** What is held for the clients of one address. */
interface Share {
  readonly address: string;
  bytes: number;
  waits: number;
  /** Those that the client can still delay, in the order of their first bytes. */
  readonly slow: Set<Wait>;
}

/**
 * Limits the memory that slow clients occupy. When the limit is exceeded, the address that holds most (the newest wait not counted) loses
 * its oldest wait. So no address pays for another that holds more, and quick clients may send and receive a lot.
 */
export class ClientBacklog {
  readonly #mostBytes: number;
  readonly #shares = new Map<string, Share>();
  #bytes = 0;

  constructor(mostBytes: number) {
    this.#mostBytes = mostBytes;
  }

  /** A new wait for a client of `address`; it holds nothing yet. */
  wait(address: string): Wait {
    return new Wait(this, address);
  }

  /** For `Wait` only. */
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

  /** For `Wait` only. */
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

  /** Walks all addresses. That is rare: whatever is cut held many kilobytes, and as many must arrive before the next walk. */
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

const ignore = (): void => {};

/** The part of the backlog that one body or one answer holds. */
export class Wait {
  readonly #backlog: ClientBacklog;
  readonly address: string;
  /** Null while nothing is held. */
  share: Share | null = null;
  bytes = 0;
  cut: () => void = ignore;

  constructor(backlog: ClientBacklog, address: string) {
    this.#backlog = backlog;
    this.address = address;
  }

  /** Counts `bytes` more and cuts others until there is room; false if there still is none. Call `leave` in either case. */
  add(bytes: number, cut: () => void): boolean {
    this.cut = cut;
    return this.#backlog.add(this, bytes);
  }

  /** From now on it is not cut, but its bytes still count. */
  keep(): void {
    this.share?.slow.delete(this);
  }

  leave(): void {
    this.#backlog.leave(this);
  }
}
