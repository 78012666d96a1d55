// `rowhouse/plugin`: for plugins in presets, which only threads load.
import { load } from "./load.js";

export const { instanceOf, perBuild } = await load("workers/kit/instance");
export const { requestOf, tenantOf } = await load("workers/kit/request");
export const { TenantCache } = await load("workers/kit/tenant-cache");
