import react from "@vitejs/plugin-react";
import { defineConfig, type Plugin } from "vite";

/** KaTeX offers its fonts in three formats; every browser that runs this page takes the first. */
function woff2Only(): Plugin {
  return {
    name: "woff2-only",
    enforce: "pre",
    transform(code, id) {
      if (!id.includes("katex") || !id.endsWith(".css")) return null;
      return code.replace(/,\s*url\([^)]+\.(?:woff|ttf)\)\s*format\(['"]?(?:woff|truetype)['"]?\)/g, "");
    },
  };
}

export default defineConfig({
  plugins: [react(), woff2Only()],
  build: {
    outDir: "../src/empu/server/web",
    emptyOutDir: true,
    assetsInlineLimit: 0, // the policy lets fonts and scripts come from files of this origin only
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 700,
  },
  server: { proxy: { "/api": "http://127.0.0.1:8000", "/v1": "http://127.0.0.1:8000" } },
});
