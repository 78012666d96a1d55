// `rowhouse/plugin`, for plugins in presets, which only threads load.
import { load } from "./load.js";

export const { instanceOf, perBuild } = await load("workers/plugin-api/instance");
export const { requestOf, tenantOf } = await load("workers/plugin-api/request");
export const { TenantCache } = await load("workers/plugin-api/tenant-cache");
