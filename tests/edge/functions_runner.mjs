// Runs vectors through the scripts as their platforms would; prints the verdicts as JSON. Started by test_functions.py.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import vm from 'node:vm';

const [folder, vectorFile] = process.argv.slice(2);
const { now, denied: list, keys, cases } = JSON.parse(readFileSync(vectorFile, 'utf8'));
const denied = Object.fromEntries(list.map((id) => [id, 1]));
const told = { 200: 'good', 404: 'refused', 410: 'gone' };

class Then extends Date {
  static now() {
    return now * 1000;
  }
}

function cloudfront(config) {
  const source = readFileSync(`${folder}/cloudfront.js`, 'utf8');
  const deployed = source.replace(/^const CONFIG = .*; \/\/ deployed$/m, `const CONFIG = ${JSON.stringify(config)};`);
  const context = vm.createContext({ require: createRequire(import.meta.url), Buffer, Date: Then });
  vm.runInContext(deployed, context);
  return (path) => {
    const [uri, ...rest] = path.split('?');
    const query = path.includes('?') ? rest.join('?') : undefined;
    const answer = context.handler({ request: { method: 'GET', uri, rawQueryString: () => query } });
    return told[answer.statusCode ?? 200];
  };
}

const worker = await import(`${folder}/worker.mjs`);
globalThis.Date = Then;
globalThis.fetch = async () => new Response('', { status: 200 });
const env = { KEYS: JSON.stringify(keys), DENIED: JSON.stringify(denied), UPSTREAM: 'http://node' };

// As the platform does it: the URL is parsed first, and what is no URL reaches nobody.
async function throughWorker(path) {
  const base = 'https://edge.example';
  if (!path.startsWith('/') || !URL.canParse(base + path)) {
    return { status: 'refused', target: path };
  }
  const { href } = new URL(base + path);
  const answer = await worker.default.fetch({ url: href, headers: {} }, env);
  return { status: told[answer.status], target: href.slice(base.length) };
}

const atCloudfront = cloudfront({ keys, denied });
const unconfigured = cloudfront({ keys: {}, denied: {} });
const results = [];
for (const { path } of cases) {
  results.push({
    cloudfront: atCloudfront(path),
    unconfigured: unconfigured(path),
    verdict: await worker.verdict(path, now, keys, denied),
    worker: await throughWorker(path),
  });
}
console.log(JSON.stringify(results));
