/** Makes metrics of one registry, with the host's prefix. */
import { Counter, Gauge, Histogram, type Registry } from "prom-client";

export interface Makers {
  counter<Label extends string>(name: string, help: string, ...labelNames: Label[]): Counter<Label>;
  gauge<Label extends string>(name: string, help: string, ...labelNames: Label[]): Gauge<Label>;
  histogram(name: string, help: string, buckets: number[]): Histogram;
}

export function makersFor(registry: Registry): Makers {
  const registers = [registry];
  return {
    counter: (name, help, ...labelNames) =>
      new Counter({ name: `rowhouse_${name}`, help, labelNames, registers }),
    gauge: (name, help, ...labelNames) =>
      new Gauge({ name: `rowhouse_${name}`, help, labelNames, registers }),
    histogram: (name, help, buckets) => new Histogram({ name: `rowhouse_${name}`, help, buckets, registers }),
  };
}
