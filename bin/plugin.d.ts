export * from "../dist/workers/plugin-api/instance.js";
export * from "../dist/workers/plugin-api/request.js";
export * from "../dist/workers/plugin-api/tenant-cache.js";
