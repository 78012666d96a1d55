// `rowhouse/plugins/localized`.
import { load } from "./load.js";

export const { localized } = await load("workers/plugins/localized");
