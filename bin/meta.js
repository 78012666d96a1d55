// `rowhouse/plugins/meta`.
import { load } from "./load.js";

export const { meta } = await load("workers/plugins/meta");
