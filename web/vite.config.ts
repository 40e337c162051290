import react from "@vitejs/plugin-react";
import { defineConfig, type Plugin } from "vite";

/** Drop KaTeX's fonts in older formats: every browser that runs this page takes woff2. */
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
    assetsInlineLimit: 0, // the content security policy allows no data: URLs for fonts and scripts
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 700,
  },
  server: { proxy: { "/api": "http://127.0.0.1:8000", "/v1": "http://127.0.0.1:8000" } },
});
