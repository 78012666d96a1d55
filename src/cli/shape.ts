/** `rowhouse shape TENANT`: prints its shape hash, its key, and whether it can share an instance. */

import { viewOf } from "../app/operations.ts";
import { openDecisions } from "../app/tenants.ts";
import type { Config } from "../config/config.ts";
import { HostError } from "../shared/kernel/errors.ts";
import type { Command } from "./command.ts";
import { openConfigured } from "./open-tenants.ts";
import { commandConfig, configOption, textOption } from "./options.ts";
import { hostVersion } from "./version.ts";

export const shapeCommand: Command = {
  name: "shape",
  description: "Print a tenant's shape hash and blueprint key, and whether it is pooled or why not",
  args: {
    tenant: { type: "positional", description: "the tenant's id", required: true },
    ...configOption,
    json: { type: "boolean", description: "print JSON" },
  },
  async run(args) {
    const config = await commandConfig(args);
    if (config.tenants.kind === "demo") {
      throw new HostError("CONFIG_INVALID", "no config and no DATABASE_URL: there is no tenant to show");
    }
    const { databases, source, close } = await openConfigured(config, "shape");
    try {
      const id = textOption(args, "tenant") ?? "";
      const tenant = await source.byId(id);
      if (tenant === null)
        throw new HostError("TENANT_UNKNOWN", `there is no tenant named ${JSON.stringify(id)}`);
      // Shows findings about roles even if a host would refuse or ignore them.
      const shown: Config = { ...config, roleSafety: "warn" };
      const version = await hostVersion();
      const decisions = await openDecisions({ config: shown, version }, databases, source, () => undefined);
      const decision = await decisions.decide(tenant);
      const view = viewOf(decision, decisions.basisOf(decision));
      if (args["json"] === true) {
        console.log(JSON.stringify(view, null, 2));
        return 0;
      }
      console.log(`tenant    ${view.id}`);
      console.log(`shape     ${view.shape}`);
      console.log(`core      ${view.core}`);
      console.log(`key       ${view.key}`);
      console.log(
        `served by ${view.kind === "pooled" ? "a pooled instance" : `a dedicated instance: ${view.reason}`}`,
      );
      if (view.sharesBy !== undefined) console.log(`shares by ${view.sharesBy}`);
      for (const [schema, revision] of Object.entries(view.revisions)) {
        console.log(`revision  ${revision} of schema ${schema}`);
      }
      // Of a pooled tenant only a build can prove it.
      const so =
        view.kind === "pooled" ? " (left out if the build finds that the API does not contain it)" : "";
      for (const object of view.hidden ?? []) console.log(`hidden    ${object}${so}`);
      for (const finding of view.unsafe ?? []) console.log(`unsafe    ${finding}`);
      return 0;
    } finally {
      await close();
    }
  },
};
