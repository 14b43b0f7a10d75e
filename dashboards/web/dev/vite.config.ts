import { mergeConfig } from "vite";
import built from "../vite.config";
import { developmentHub } from "./hub";

/** The application with the development hub: `npm run dev`, or `npm run preview` for the build. */
export default mergeConfig(built, { plugins: [developmentHub()] });
