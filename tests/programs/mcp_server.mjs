// An MCP server made with the protocol's own SDK, for tests: node mcp_server.mjs <folder of node_modules>
import { pathToFileURL } from "node:url";

const sdk = (path) => import(pathToFileURL(`${process.argv[2]}/@modelcontextprotocol/sdk/dist/esm/${path}`).href);
const { Server } = await sdk("server/index.js");
const { StdioServerTransport } = await sdk("server/stdio.js");
const { CallToolRequestSchema, ListToolsRequestSchema } = await sdk("types.js");

const text = { type: "object", properties: { text: { type: "string" } }, required: ["text"] };
const tools = [{ name: "shout", description: "Says it loudly.", inputSchema: text }];
const server = new Server({ name: "official", version: "1" }, { capabilities: { tools: { listChanged: true } } });
server.setRequestHandler(ListToolsRequestSchema, () => ({ tools }));
server.setRequestHandler(CallToolRequestSchema, async ({ params }) => {
  const said = params.arguments.text;
  if (params.name === "shout" && said === "learn") {
    tools.push({ name: "whisper", description: "Says it softly.", inputSchema: text });
    await server.sendToolListChanged();
  }
  return { content: [{ type: "text", text: params.name === "shout" ? said.toUpperCase() : said.toLowerCase() }] };
});
await server.connect(new StdioServerTransport());
