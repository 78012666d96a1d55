export * from "../dist/workers/kit/instance.js";
export * from "../dist/workers/kit/request.js";
export * from "../dist/workers/kit/tenant-cache.js";
