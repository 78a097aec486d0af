import { defineConfig } from "vite";

// The worker answers for a path, so it keeps its name; everything else is named by what is in it and can be kept for ever.
export default defineConfig({
  appType: "mpa",
  build: {
    outDir: "dist",
    emptyOutDir: true,
    target: "es2022",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    rollupOptions: {
      input: { node: "node/index.html", sw: "src/sw/sw.ts" },
      output: {
        entryFileNames: (chunk) => (chunk.name === "sw" ? "node/sw.js" : "node/assets/[name]-[hash].js"),
        chunkFileNames: "node/assets/[name]-[hash].js",
        assetFileNames: "node/assets/[name]-[hash][extname]",
      },
    },
  },
});
