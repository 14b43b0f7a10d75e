import type { Plugin } from "vite";
import { defineConfig } from "vitest/config";

/** Preload the font file that every page needs, before the browser has read the style sheet. */
function preloadFont(): Plugin {
  return {
    name: "preload-font",
    transformIndexHtml(_, { bundle }) {
      const file = Object.keys(bundle ?? {}).find((name) => /inter-latin-wght-normal.*\.woff2$/.test(name));
      if (file === undefined) return [];
      const attrs = { rel: "preload", href: `./${file}`, as: "font", type: "font/woff2", crossorigin: "" };
      return [{ tag: "link", attrs, injectTo: "head" }];
    },
  };
}

export default defineConfig({
  // Relative addresses: the hub may be below any path, and completes those in index.html.
  base: "./",
  plugins: [preloadFont()],
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  build: {
    outDir: "../../hub/http/static",
    emptyOutDir: true,
    // No inline content: the page has a strict content security policy.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    rollupOptions: { input: ["index.html", "not_found.html"] },
    target: ["es2022", "chrome123", "firefox121", "safari17.5"],
    reportCompressedSize: true,
  },
  server: { port: 5173 },
  test: { include: ["tests/**/*.test.ts"] },
});
