import { mergeConfig } from "vite";
import built from "../vite.config";
import { developmentHub } from "./hub";

/** The application with the development hub behind it: `npm run dev`, or `npm run preview` for what was built. */
export default mergeConfig(built, { plugins: [developmentHub()] });
